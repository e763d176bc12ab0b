"""The dashboard. Speaks to a node through fednode.AsyncClient alone.

From below, each storey knowing those under it alone:

    facts       what is so, and what is looked at: events and answers folded into values. Pure
    feeds       where events and answers come from: a running node, a store, a tape; commands as processes
    drawing     pictures and tables as values. Pure
    widgets     what Textual shows of them, and forms and windows
    views       one for each number key, and the inbox: which panels it has, and what it wishes to know
    actions     what can be done from anywhere: commands, invitations, proposals; deeds: about the chosen run
    habits      themes and the keys of a replay, on settings, the one file that is remembered
    app         puts it together, and alone decides when to ask and when to paint

`command` is `fednode tui`, and `once` its answer without a screen; `web_command`, `web` and those beside it are
`fednode web`: a process with the dashboard for each page.
"""
