// Receivers of the five reference systems, each as its page tells its users to write one. Reads
// {system, secret, headers, body} from standard input; prints {event, data}, or fails.
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";

const hex = (algorithm, secret, signed) => createHmac(algorithm, secret).update(signed).digest("hex");
const refuse = (why) => {
  throw new Error(why);
};
const isNow = (timestamp) => Math.abs(Date.now() / 1000 - parseInt(timestamp, 10)) <= 300;

const systems = {
  // Time and body, hex behind "sha256=", compared in constant time; five minutes of difference.
  chimpbase(secret, headers, body) {
    const timestamp = headers["x-chimpbase-timestamp"];
    if (!isNow(timestamp)) refuse("too old");
    const given = Buffer.from(headers["x-chimpbase-signature"].replace("sha256=", ""), "hex");
    const wanted = Buffer.from(hex("sha256", secret, `${timestamp}.${body}`), "hex");
    if (!timingSafeEqual(wanted, given)) refuse("signature");
    const { event, payload, deliveryId } = JSON.parse(body);
    if (deliveryId !== headers["x-chimpbase-delivery-id"]) refuse("delivery id");
    return { event, data: payload };
  },
  // The body as it came.
  rkt(secret, headers, body) {
    if (hex("sha256", secret, body) !== headers["x-rkt-signature"]) refuse("signature");
    const { event, data, chatbotId, timestamp } = JSON.parse(body);
    if (new Date(timestamp).toISOString() !== timestamp) refuse("timestamp");
    return { event, data, channel: chatbotId };
  },
  // The page has two samples: one reads the raw body, one writes anew what a parser made of it.
  chatbase(secret, headers, body) {
    const again = Buffer.from(JSON.stringify(JSON.parse(body)));
    for (const bytes of [Buffer.from(body), again]) {
      if (hex("sha1", secret, bytes) !== headers["x-chatbase-signature"]) refuse("signature");
    }
    const { eventType, payload, chatbotId } = JSON.parse(body);
    return { event: eventType, data: payload, channel: chatbotId };
  },
  // What the parser made of it, written anew.
  connectgain(secret, headers, body) {
    const parsed = JSON.parse(body);
    if (hex("sha256", secret, JSON.stringify(parsed)) !== headers["x-webhook-signature"]) refuse("signature");
    if (parsed.event !== headers["x-webhook-event"]) refuse("event");
    if (Number.isNaN(Date.parse(headers["x-webhook-timestamp"]))) refuse("timestamp");
    return { event: parsed.event, data: parsed.data };
  },
  // Its sources ask for a key for each event, and sign time and body.
  chatblocks(secret, headers, body) {
    const [, timestamp, given] = headers["x-chatblocks-signature"].match(/^t=(\d+),v1=([0-9a-f]+)$/);
    if (!isNow(timestamp)) refuse("too old");
    if (hex("sha256", secret, `${timestamp}.${body}`) !== given) refuse("signature");
    if (!headers["idempotency-key"] || headers["content-type"] !== "application/json") refuse("headers");
    return { data: JSON.parse(body) };
  },
};

const { system, secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(systems[system](secret, headers, body)));
