"""The app: `workbench app STUDY` opens it (`workbench/command/serve.py` starts Streamlit with the
right settings).

One study, one page a file in `workbench/views`. This file only says which pages there are.
"""

import sys

import streamlit as st

from feature_store.errors import WorkbenchError
from workbench import views

st.set_page_config(page_title="Values workbench", page_icon="🧭", layout="wide")
st.html(views.STYLE)

page = st.navigation(views.pages())
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
