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

try:
    study = views.open_study(sys.argv[-1])
except WorkbenchError as error:
    st.error(views.safe(error))
    st.stop()

page = st.navigation(views.pages())
with st.sidebar:
    chosen = views.choose(study)
views.enter(page, study, chosen)
