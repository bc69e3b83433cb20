"""Finds nodes by way of one, writes and reads 50 keys, and prints what it has found."""

import json
import sys

from django_elastipymemcache.client import AWSElastiCacheClient

client = AWSElastiCacheClient(f"127.0.0.1:{sys.argv[1]}")
keys = [f"key-{number}" for number in range(50)]
for number, key in enumerate(keys):
    assert client.set(key, str(number))
values = [client.get(key).decode() for key in keys]
print(json.dumps({"nodes": sorted(client.clients), "values": values}))
