// A receiver without a secret: it has fetched the endpoint's JSON Web Key Set and verifies `v1a` by it. Reads
// {jwks, headers, body} from standard input; prints the ids of the keys that signed, or fails.
import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const { jwks, headers, body } = JSON.parse(readFileSync(0, "utf8"));
const signed = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
const signatures = headers["webhook-signature"]
  .split(" ")
  .filter((one) => one.startsWith("v1a,"))
  .map((one) => Buffer.from(one.slice(4), "base64"));
const by = jwks.keys
  .filter((jwk) => {
    const key = createPublicKey({ key: jwk, format: "jwk" });
    return signatures.some((signature) => verify(null, signed, key, signature));
  })
  .map((jwk) => jwk.kid);
if (by.length === 0) throw new Error("no key of the set signed it");
console.log(JSON.stringify(by));
