"""The family `projects`: marketing-mix models are checked, fitted, exported, and asked what each cause brought.

It runs in replicas of the pool `jobs`. Every task is told files and folders; the server never looks into them. What each task gets
and gives (all answer with one part, `{"parts": [{"size", ...}]}`; what stands in that part is named below, and `size` counts the
bytes of the payload, which is one JSON object with the keys that users see, so that the server hands it on as it is):

FILES        {type: absolute path}: the Parquet files of a dataset by type (`Sales`, `Media`, `Events`, ...), with the columns
             country region grouping date product name subname metric value, and for Media channel. Sales has UnitsSold,
             PricePerUnit and ProfitPerUnit in place of name to value, Events has start, end and event in place of date to value.
             A column may be missing where it has no values; capitals and underscores in names of columns do not matter.
COMBINATION  [country, region, grouping]
GRAPH        {"nodes": [...], "edges": [...]}, as people send it: with `kind` in its nodes it is of the high level, with `op` it is an
             INSTANCE, of the low level. In an INSTANCE that a task gave, every scale, mean and prior stands as a number.
DATES        ["2018-01-07", ...]
Every task may answer, in place of what stands below:
    {"refused": {"code", "message", "details": [{"Code", "Message", "Node"? | "Edge"? | "Value"?}], "details_total"}}
             codes: invalid_graph mixed_graph graph_too_large unknown_combination unknown_date too_few_dates dates_overlap
             sales_missing constant_target fit_diverged source_missing bad_range
    {"full": true}      the disk is full
`fit` and `attribute` send frames before their answer, at most two a second: {"progress": {"Stage", "Done", "Total", "Elbo": number or
null, "EtaS"}}; the header also has `more`. Both stop when the server sends the signal of engine/tasks/stopping.py.

`check_graph`: may this be fitted, and as which instance? It takes milliseconds, and loads neither scipy nor onnx.
    asked   files; combination; train_dates, eval_dates: DATES; graph: GRAPH, or null for the default one; max_parameters: integer
    gives   payload {"Graph": high level, with every id as sent; "Instance": INSTANCE; "Warnings": [{"Code", "Message", "Node"?}]}

`default_graph`
    asked   files; combination
    gives   payload: GRAPH of the high level

`check_refit`: has the new dataset what the model needs? Quick, like `check_graph`.
    asked   files; train_dates, eval_dates; model: folder that `fit` wrote
    gives   payload {"Warnings": [...]}

`fit`
    asked   files; combination; instance: INSTANCE; train_dates, eval_dates
            inference: "hmc" | "vi" | "map"; epochs; learning_rate; samples; seed
            folder: exists; gets model.onnx, config.json, fitted.json, draws.npy
            parent: folder of the model that this refits, or null
            owner, name: of the published model; dataset: title, for the metadata of the graph
            max_gradients, export_draws: integers
    gives   converged: true | false; window: W of the exported graph
            payload {"Metrics", "Diagnostics", "Drift", "Scales", "Warnings", "Response"}, Response as in GET .../response, all nodes

`attribute`
    asked   model: folder that `fit` wrote; files; start_date, end_date; samples
            folder: exists; gets effects.parquet (Date, Node, Mean, P5, P50, P95, DirectMean, Revenue, Profit, Spend) and effects.npz
            (what `align` needs: dates, nodes, effects by draw)
    gives   payload {"StartDate", "EndDate", "Samples", "Observed", "Prediction", "Baseline", "Totals", "Warnings"}

`align`: one attribution set of several attributions.
    asked   attributions: [{"iid", "folder", "combination", "target_metric", "frequency"}] in the order of the request
            folder: exists; gets effects.parquet, with the columns of COMBINATION first
    gives   payload {"FirstDate", "LastDate", "Combinations": [{"Country", "Region", "Grouping", "Periods", "Totals": [...]}]}
            refused: no_common_dates, mixed_target
"""
