"""The console: a page that shows a cluster, and what serves its files. `page/` is what a browser gets, as
it is in the repository: no build, no Node. It asks `/api/v1` of whoever served it."""
