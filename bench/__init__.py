"""RedCouch beside memcached and twemproxy under the same load.

``python -m bench`` starts the servers on loopback, drives them in turns and reports what each did.
Nothing here is part of the installed package, and nothing here imports it.
"""
