"""The family `projects`: marketing-mix models are checked, fitted, exported, and asked what each cause brought.

It runs in replicas of the pool `jobs`. Every task is told files and folders; the server never looks into them. What each task gets
and gives (all answer with one part, `{"parts": [{"size", ...}]}`; what stands in that part is named below, and `size` counts the
bytes of the payload, which is one JSON object with the keys that users see, so that the server hands it on as it is):

FILES        {type: absolute path}: the Parquet files of a dataset by type (`Sales`, `Media`, `Events`, ...), with the columns
             country region grouping date product name subname metric value, and for Media channel. Sales has UnitsSold,
             PricePerUnit and ProfitPerUnit in place of name to value, Events has start, end and event in place of date to value.
             A column may be missing where it has no values; capitals and underscores in names of columns do not matter.
COMBINATION  [country, region, grouping]
GRAPH        {"nodes": [...], "edges": [...]}, as people send it: with `kind` in its nodes it is of the high level, with `op` it is
             an INSTANCE, of the low level. In an INSTANCE that a task gave, every scale, mean and prior stands as a number.
DATES        ["2018-01-07", ...]
Every task may answer, in place of what stands below:
    {"refused": {"code", "message", "details": [{"Code", "Message", "Node"? | "Edge"? | "Value"?}], "details_total"}}
             codes: invalid_graph mixed_graph graph_too_large unknown_combination unknown_date too_few_dates dates_overlap
             sales_missing constant_target fit_diverged source_missing bad_range invalid_file mixed_frequency
             too_many_rows
    {"full": true}      the disk is full
`fit`, `attribute`, `read_upload` and `join` send frames before their answer, at most two a second: {"progress": {"Stage", "Done",
"Total", "Elbo": number or null, "EtaS": seconds or null}}; the header also has `more`.
They stop when the server sends the signal of engine/tasks/stopping.py.

`read_upload`: a file that a person has sent becomes the rows of one type of data, or is refused as a whole.
    asked   file: path; name: the file's name as sent, for messages; dataset_name: the type, in any case of letters
            folder: exists; gets rows.parquet, with the columns of FILES, written beside its name, fsynced and renamed
            max_rows: integer
    gives   rows: integer
            payload {"DatasetName": as it is written, "Layout": "long" | "wide", "Rows", "Frequency": "daily" | "weekly" |
            "monthly" | null, "Combinations": [{"Country", "Region", "Grouping", "FirstDate", "LastDate", "Periods"}], "FirstDate",
            "LastDate"}; Rows counts rows of rows.parquet
            refused: invalid_file with details [{"Code", "Row", "Column", "Value", "Message"}] in the order of the file, where Code
            is one of missing_column unknown_column bad_date bad_number bad_country bad_charset bad_metric missing_value
            missing_investment duplicate_key negative_value empty_file mixed_frequency formula_cell extra_sheet bad_layout
            too_many_rows. Row counts records (the header is 1, blank lines count), Column is the header, or in a wide file the
            letter of a spreadsheet. Each is null where it says nothing: Row when the fault is the file's, Column when it is the
            row's (duplicate_key, bad_layout). A column that is missing in a long file is a fault of row 1. Of rows with a wrong
            number of cells at most 20,000 are counted.
            It sends frames of progress, whose stage is "read", and whose numbers are bytes of the file.

`join`: files of datasets and uploads become the files of one dataset. Of the rows with one key, the last source's is taken.
    asked   sources: [FILES, ...], datasets first and then uploads, each in the order of the request; for an upload {type: path of
            its rows.parquet}, with its DatasetName as the type
            title: "acme/demo-dataset-9", for README.md
            folder: exists and is empty; gets README.md, and for each type TYPE.parquet with _ in place of spaces; all is fsynced
    gives   warnings: [{"Code": "gap", "Message", "Dates": DATES}], one for each combination, with its first 100 missing dates
            types: {type: name of its file in folder}; rows: integer, of all types
            payload {"Types": [{"DatasetName", "Rows", "FirstDate", "LastDate", "Replaced"}], "Frequency", "Combinations":
            [{"Country", "Region", "Grouping", "FirstDate", "LastDate", "Periods"}]}; Combinations are those of Sales
            refused: sales_missing; mixed_frequency, whose details have a combination as Value; too_many_rows
            It sends frames of progress, whose stage is "join", and whose numbers are files.

`dates`: quick, like `check_graph`; it says on which dates of Sales a dataset has rows of a type, so that no list of dates, which
may be millions, has to be kept with the dataset.
    asked   files: at least those of Sales and of dataset_name, if the dataset has it
            dataset_name; combinations: [COMBINATION, ...], at least one
    gives   payload: DATES, ascending, without repetition; those that all combinations have. For a type other than Sales: the Sales
            dates of the combination in whose period the type has a row; none for a type that is not in files
            refused: unknown_combination

`check_graph`: may this be fitted, and as which instance? It takes milliseconds, and loads neither scipy nor onnx.
    asked   files; combination; train_dates, eval_dates: DATES; graph: GRAPH, or null for the default one; max_parameters: integer
    gives   warnings: [{"Code", "Message", "Node"?}]
            values: {"graph", "instance"}: how many bytes of the payload each has, one behind the other: GRAPH of the high level,
            with every id as sent, and INSTANCE

`check_drawing`: is this a graph of the high level? What its sources mean is not looked at. Quick, like `check_graph`.
    asked   graph: GRAPH
    gives   values: {"graph"}: the same

`default_graph`
    asked   files; combination
    gives   values: {"graph"}: GRAPH of the high level

`check_refit`: has the new dataset what the model needs? Quick, like `check_graph`.
    asked   files; train_dates, eval_dates; model: folder that `fit` wrote
    gives   warnings: [...]; no payload

`check_attribution`: has the dataset what the model needs, and dates in the range? Quick, like `check_graph`.
    asked   model: folder that `fit` wrote; files; start_date, end_date
    gives   warnings: [...]; no payload

`plot`: a picture of a model or of an attribution. Quick, like `check_graph`.
    asked   kind: "fit" | "residuals" | "baseline" | "response" of a model, "contributions" | "waterfall" of an attribution
            width, height: pixels; title
            graph_bytes: of the first value in the payload, which is GRAPH of the high level: the names of its nodes are the labels
            fit, residuals, baseline: model: folder that `fit` wrote; files; eval_dates: DATES
            response: a second value in the payload, which is the `response` that `fit` gave
            contributions, waterfall: attribution: folder that `attribute` wrote
    gives   payload: SVG

`effects`: rows of the table that `attribute` wrote. Quick, like `check_graph`.
    asked   attribution: folder that `attribute` wrote; node: one of its nodes, or null for all; format: "json" | "csv"
    gives   payload: an array of objects, or CSV with a header; the columns are those of the table
            refused: bad_field for a node that is not there

`fit`
    asked   files; combination; instance: INSTANCE; train_dates, eval_dates
            inference: "hmc" | "vi" | "map"; epochs; learning_rate; samples; seed
            folder: exists; gets model.onnx, config.json, fitted.json, draws.npy
            parent: folder of the model that this refits, or null
            owner, name: of the published model; dataset: title, for the metadata of the graph
            max_gradients, export_draws: integers
    gives   converged: true | false; window: W of the exported graph; frequency; target_metric; warnings: [...]
            values: {"figures", "response"}: {"Metrics", "Diagnostics", "Drift", "Scales"}, and the curves of all media nodes

`attribute`
    asked   model: folder that `fit` wrote; files; start_date, end_date; samples
            title: "acme/demo-attribution-5", for README.md
            folder: exists; gets README.md, effects.parquet (Date, Node, Mean, P5, P50, P95, DirectMean, Revenue, Profit, Spend) and
            effects.npz (what `align` needs: dates, nodes, effects by draw); all is fsynced
    gives   warnings: [...]; frequency; target_metric
            payload {"StartDate", "EndDate", "Samples", "Observed", "Prediction", "Baseline", "Totals"}

`align`: one attribution set of several attributions.
    asked   attributions: [{"iid", "folder", "combination", "target_metric", "frequency"}] in the order of the request
    gives   payload {"FirstDate", "LastDate", "Combinations": [{"Country", "Region", "Grouping", "Periods", "Totals": [...]}]}
            refused: no_common_dates, mixed_target
"""

import errno
from collections.abc import Callable, Generator
from typing import Any

from engine.frames import Header
from engine.tasks.families import Families, LongReply, Reply, TaskFunction
from engine.tasks.projects import graphs
from engine.tasks.projects.progress import Stage, told
from engine.tasks.projects.refusals import Refusal
from engine.tasks.projects.replies import as_it_is, reply
from engine.tasks.stopping import Stopping


def tasks(families: Families) -> dict[str, TaskFunction]:
    """As the docstring of this file says."""
    stopping = families.the(Stopping)
    return {
        "check_graph": _short(_check_graph),
        "check_drawing": _short(_check_drawing),
        "check_attribution": _short(_check_attribution),
        "default_graph": _short(_default_graph),
        "check_refit": _short(_check_refit),
        "plot": _short(_plot),
        "effects": _short(_effects),
        "fit": _long(_fit, stopping),
        "attribute": _long(_attribute, stopping),
        "align": _long(_align, stopping),
        "read_upload": _long(_read_upload, stopping),
        "join": _long(_join, stopping),
        "dates": _short(_dates),
    }


def _check_graph(header: Header, payload: memoryview) -> Reply:
    found = graphs.check_graph(header)
    return reply({"graph": found["Graph"], "instance": found["Instance"]}, warnings=found["Warnings"])


def _default_graph(header: Header, payload: memoryview) -> Reply:
    return reply({"graph": graphs.default_graph(header)})


def _check_refit(header: Header, payload: memoryview) -> Reply:
    return reply(warnings=graphs.check_refit(header)["Warnings"])


def _check_drawing(header: Header, payload: memoryview) -> Reply:
    return reply({"graph": graphs.check_drawing(header)})


def _check_attribution(header: Header, payload: memoryview) -> Reply:
    from engine.tasks.projects import attributable

    return reply(warnings=attributable.check(header))


def _dates(header: Header, payload: memoryview) -> Reply:
    from engine.tasks.projects.uploads.dates import dates

    return reply({"dates": dates(header)})


def _plot(header: Header, payload: memoryview) -> Reply:
    from engine.tasks.projects import plots

    return as_it_is(plots.plot(header, payload))


def _effects(header: Header, payload: memoryview) -> Reply:
    from engine.tasks.projects import tables

    return as_it_is(tables.effects(header))


def _fit(header: Header) -> Stage[Reply]:
    # scipy and onnx take 60 MB and 0.3 s, and only a fit needs them.
    from engine.tasks.projects.fit import Fitting

    return Fitting(header).run()


def _attribute(header: Header) -> Stage[Reply]:
    from engine.tasks.projects import attributing

    return attributing.run(header)


def _align(header: Header) -> Stage[Reply]:
    from engine.tasks.projects import aligning

    return aligning.run(header)


def _read_upload(header: Header) -> Stage[Reply]:
    from engine.tasks.projects.uploads import reading

    return reading.run(header)


def _join(header: Header) -> Stage[Reply]:
    from engine.tasks.projects.uploads import joining

    return joining.run(header)


def _short(work: Callable[[Header, memoryview], Reply]) -> TaskFunction:
    """A task that may refuse, and that is done before anybody could want it to stop."""

    def run(header: Header, payload: memoryview) -> Reply:
        try:
            return work(header, payload)
        except (Refusal, OSError) as error:
            return _refused(error)

    return run


def _long(work: Callable[[Header], Stage[Reply]], stopping: Stopping) -> TaskFunction:
    """A task that tells its progress, and that can be stopped."""

    def run(header: Header, payload: memoryview) -> LongReply:
        with stopping.hearing():
            try:
                return (yield from told(_begun(work, header), stopping.check))
            except (Refusal, OSError) as error:
                return _refused(error)

    return run


def _begun(work: Callable[[Header], Stage[Reply]], header: Header) -> Generator[Any, None, Reply]:
    """The stages of a task, of which also the first begins inside the generator, so that what it refuses is an answer."""
    return (yield from work(header))


def _refused(error: Refusal | OSError) -> Reply:
    """A refusal as an answer, or that the disk is full. Any other error of the system goes on."""
    if isinstance(error, Refusal):
        return {"parts": [{"size": 0, "refused": error.report()}]}, []
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return {"parts": [{"size": 0, "full": True}]}, []
