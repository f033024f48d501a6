"""Preview: what is in the datasets of the catalogue, made once by jobs, kept as finished answers, and sent as they are.

faults             what can be wrong with a dataset or a split, and how that is stored
catalogue, access  which datasets there are; who may see one
tasks, kinds       what replicas are asked; the kinds of jobs, whose commits move a dataset from one state to the next
listings, splits   those commits: of a listing, and of what is made of one split
states             what is known of a dataset or a split, and asking for what is not
answers, bodies    finished answers in memory; how those with addresses become what is sent
waiting            requests that stay until what they ask for is there
preview            `Preview`: what the handlers ask
watching           what goes on beside requests: scans, commits of workers, downloads
holds, lending     prepared files that somebody reads; what of them queries may read
reports, queue     counters and lists of all datasets; hooks
sweeping, damage   files that nothing names any more; those that are lost
pages              `/v2/rows`, and predictions beside its rows
"""
