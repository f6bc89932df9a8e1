"""A receiver as the users of the PyPI package `standardwebhooks` write it. Reads {secret, headers, body} from
standard input; prints what it was told, or fails."""

import json
import sys

from standardwebhooks import Webhook

given = json.load(sys.stdin)
print(json.dumps(Webhook(given["secret"]).verify(given["body"], given["headers"])))
