"""The app: `workbench app STUDY` opens it (`workbench/command/serve.py` starts Streamlit with the
right settings).

One study, one page a file in `workbench/views`. This file only says which pages there are.
"""

import sys

import streamlit as st

from feature_store.errors import WorkbenchError
from workbench import views

# Before the pages are listed: the icon of a page would be fetched from outside as the tab's.
st.set_page_config(page_icon="🧭", layout="wide")
page = st.navigation(views.pages())
st.set_page_config(page_title=f"{page.title} · Values workbench")
st.html(views.STYLE)
try:
    study = views.open_study(sys.argv[-1])
    views.name_bad_runs(study)
    views.say_published(study)
    with st.sidebar:
        chosen = views.choose(study)
except WorkbenchError as error:
    st.error(views.safe(error))
    st.stop()
views.enter(page, study, chosen)
