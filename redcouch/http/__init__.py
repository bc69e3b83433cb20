"""
What an operator sees (C{--http}): a status page, metrics, and whether the
service is alive and ready.

L{watching} gathers what there is to see; L{metrics} says it to Prometheus,
L{status} to the page in C{page/}, with L{history} for its charts and L{phase}
for where the migration is. L{site} puts it at its paths, behind L{gate}, and
L{service} lives as long as the service that it shows.
"""
