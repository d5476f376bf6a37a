"""Visitors of one address, until somebody makes the file STOP: visitors.py ADDRESS STOP

Some take a connection for each request, some keep theirs. Says at the end how many requests were sent, how many failed,
and which version answered how often. Ends with 1 where one failed.
"""

import collections
import http.client
import os
import sys
import threading
import time

address, stop = sys.argv[1:]
met, failed = collections.Counter(), []
lock = threading.Lock()


def visit(line):
    line.request("GET", "/version")
    answer = line.getresponse()
    body = answer.read().decode().strip()
    if answer.status != 200:
        raise OSError(f"{answer.status}: {body}")
    return body


def visitor(keep):
    line = http.client.HTTPConnection(address, timeout=20)
    while not os.path.exists(stop):
        try:
            version = visit(line)
            with lock:
                met[version] += 1
        except (OSError, http.client.HTTPException) as error:
            with lock:
                failed.append(repr(error))
            line.close()
        if not keep:
            line.close()
        time.sleep(0.005)


visitors = [threading.Thread(target=visitor, args=(keep,)) for keep in (True, True, False, False)]
for one in visitors:
    one.start()
for one in visitors:
    one.join()
print(f"{sum(met.values()) + len(failed)} requests, {len(failed)} failed;", *(f"{v}: {n}" for v, n in sorted(met.items())))
for why in failed[:5]:
    print(why)
sys.exit(1 if failed else 0)
