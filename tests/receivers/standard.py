"""A receiver as the users of the PyPI package `standardwebhooks` write it. Reads {secret, headers, body} from
standard input; prints what it was told, or fails."""

import json
import sys

sys.path.insert(0, sys.argv[1])

from standardwebhooks import Webhook  # noqa: E402

given = json.load(sys.stdin)
print(json.dumps(Webhook(given["secret"]).verify(given["body"], given["headers"])))
