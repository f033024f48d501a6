"""The codes of projects: of requests and of jobs, and the words of their details and warnings."""

from collections.abc import Mapping

from engine.errors import Code, Kind, by_word

# Bodies
BAD_JSON = Code("bad_json", Kind.MALFORMED, "the body is not JSON")
BAD_FIELD = Code("bad_field", Kind.INVALID, "a field of the body, or a parameter, is missing or has a wrong value")
BAD_PARAMETER = Code("bad_parameter", Kind.INVALID, "a number that a fit is asked with is outside its range")
EMPTY_REQUEST = Code("empty_request", Kind.INVALID, "the request names nothing to work on")

# Projects and what they have
UNKNOWN_PROJECT = Code("unknown_project", Kind.NOT_FOUND, "the team has no such project")
UNKNOWN_UPLOAD = Code("unknown_upload", Kind.NOT_FOUND, "the project has no such upload")
UNKNOWN_DATASET = Code("unknown_dataset", Kind.NOT_FOUND, "the project has no such dataset")
UNKNOWN_MODEL = Code("unknown_model", Kind.NOT_FOUND, "the project has no such model")
UNKNOWN_ATTRIBUTION = Code("unknown_attribution", Kind.NOT_FOUND, "the project has no such attribution")
UNKNOWN_SET = Code("unknown_set", Kind.NOT_FOUND, "the project has no such attribution set")
UNKNOWN_GRAPH = Code("unknown_graph", Kind.NOT_FOUND, "the project, or the team, has no such graph")
NO_ACTIVE_DATASET = Code("no_active_dataset", Kind.NOT_FOUND, "no dataset of the project is active")
IN_USE = Code("in_use", Kind.CONFLICT, "it is active, or something else was made of it")
NOT_COMPLETE = Code("not_complete", Kind.CONFLICT, "its job has not ended with success")
ALREADY_FINISHED = Code("already_finished", Kind.CONFLICT, "its job has ended")

# Kind of an object of a project -> what is said when there is no such object
UNKNOWN: Mapping[str, Code] = {
    "upload": UNKNOWN_UPLOAD,
    "dataset": UNKNOWN_DATASET,
    "model": UNKNOWN_MODEL,
    "attribution": UNKNOWN_ATTRIBUTION,
    "attribution_set": UNKNOWN_SET,
}

# Uploads
BAD_DATASET_NAME = Code("bad_dataset_name", Kind.INVALID, "dataset_name is missing, or no type of data can have it")
NO_FILE = Code("no_file", Kind.INVALID, "the body is not a form, or has no field `file`")
EXTRA_FILE = Code("extra_file", Kind.INVALID, "the form has more than one file")
FILE_TOO_LARGE = Code("file_too_large", Kind.TOO_LARGE, "the file is larger than SLUICE_PROJECT_UPLOAD_LIMIT_BYTES")
INVALID_FILE = Code("invalid_file", Kind.INVALID, "the file has faults, which the details list")

# Datasets, graphs, models and attributions: what a replica says against a request or against its data, by its word
REFUSALS = by_word(
    INVALID_FILE,
    Code("sales_missing", Kind.INVALID, "the dataset has no Sales"),
    Code("mixed_frequency", Kind.INVALID, "the dates are not of one frequency, or not of one day of the week"),
    Code("unknown_combination", Kind.NOT_FOUND, "the dataset has no Sales for the country, region and grouping"),
    Code("unknown_date", Kind.INVALID, "Sales of the dataset has no such date for the combination"),
    Code("dates_overlap", Kind.INVALID, "a date is both among the train dates and among the eval dates"),
    Code("too_few_dates", Kind.INVALID, "there are fewer than 20 train dates"),
    Code("mixed_graph", Kind.INVALID, "some nodes have `kind` and some have `op`"),
    Code("invalid_graph", Kind.INVALID, "the graph cannot be fitted, for reasons that the details list"),
    Code("graph_too_large", Kind.INVALID, "the graph has too many nodes, edges, parameters, or causes that act on each other"),
    Code("source_missing", Kind.INVALID, "the dataset lacks what a node of the graph reads"),
    Code("bad_range", Kind.INVALID, "there are no dates in the range"),
    Code("constant_target", Kind.INVALID, "the target is zero or constant on the train dates"),
    Code("fit_diverged", Kind.FAILED, "the fit found no finite values"),
    Code("no_common_dates", Kind.INVALID, "the attributions have no dates in common"),
    Code("mixed_target", Kind.INVALID, "the attributions differ in their target or in their frequency"),
)

# What the details of `invalid_file` say, by their `Code`.
FILE_DETAILS: Mapping[str, str] = {
    "missing_column": "the type of data needs a column that the file lacks",
    "unknown_column": "the type of data has no such column",
    "bad_date": "a date is not written as 2018-01-07",
    "bad_number": "a value is not a number, or not a whole one where one is needed",
    "bad_country": "a country is not three capitals of ISO 3166",
    "bad_charset": "a character is not allowed there, or bytes are not UTF-8",
    "bad_metric": "the type of data has no such metric",
    "missing_value": "a cell that is needed is empty",
    "missing_investment": "a key of Media has no row with the metric Investment",
    "duplicate_key": "two rows have the same key",
    "negative_value": "a value that counts something is negative",
    "empty_file": "the file has no rows",
    "mixed_frequency": "the dates of a combination are not of one frequency",
    "formula_cell": "a cell of the workbook holds a formula",
    "extra_sheet": "the workbook has more than one sheet",
    "bad_layout": "the file cannot be read as such a table",
    "too_many_rows": "the file has more rows or columns than we take, or unpacks to more bytes",
}

# What `Warnings` say, by their `Code`.
WARNINGS: Mapping[str, str] = {
    "rhat_high": "the chains of the fit differ (r-hat above 1.05)",
    "not_converged": "the fit did not converge, so its intervals cannot be trusted",
    "not_activated": "the model was not activated, because its fit did not converge",
    "vi_not_improved": "variational inference found nothing better than its start, which was kept",
    "intervals_approximate": "the intervals come from `vi` or `map`, and are narrower than they should be",
    "few_periods": "there are fewer than 52 periods, or fewer than three for each parameter",
    "few_draws": "the attribution uses fewer than 100 draws",
    "high_correlation": "two inputs move together",
    "not_separable": "the data cannot tell the effects of two nodes apart; their sum is known better",
    "prior_dominated": "the data says little about a parameter beyond its prior",
    "negative_baseline": "the baseline is likely negative somewhere",
    "roi_implausible": "a return on spend is below 0.05 or above 20",
    "residual_autocorrelation": "errors of neighbouring periods resemble each other",
    "low_coverage": "fewer than 70 % of the eval dates lie in their intervals",
    "extrapolation": "an input is more than a fifth above its largest value in training",
    "drift": "an effect differs from the parent's by more than a quarter",
    "source_ends_early": "a series ends before the last date that was asked for",
    "constant_in_training": "an input is constant on the train dates and was left out",
    "gap": "periods of Sales are missing",
    "spread": "a coarser series was spread evenly over days",
}
