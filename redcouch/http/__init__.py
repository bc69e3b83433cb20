"""
What an operator sees (C{--http}): a status page, metrics, and whether the
service is alive and ready.

L{collect} gathers what there is to see; L{metrics} says it to Prometheus,
L{status} to the page in C{page/}, with L{history} for its charts and L{migration_phase}
for where the migration is. L{routes} puts it at its paths, behind L{access}, and
L{service} lives as long as the service that it shows.
"""
