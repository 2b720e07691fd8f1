// The faults of a Node shop: `node shop.js KIND SEED` triggers one. corpus.py puts this file at src/checkout.js, and the part behind
// the line "//// PATH" into node_modules.
'use strict';
const fs = require('fs');
const http = require('http');
const crypto = require('crypto');
const payments = require('@acme/payments');
const [kind, seed] = [process.argv[2], Number(process.argv[3])];
let state = seed * 2654435761 % 4294967296;
const next = (to) => { state = (state * 1664525 + 1013904223) % 4294967296; return state % to; };
const hex = (length) => crypto.createHash('sha256').update(`${seed}/${kind}`).digest('hex').slice(0, length);
const name = () => ['anna', 'bert', 'carla', 'dirk', 'emil', 'frida', 'gerd', 'hanna'][next(8)];

function priceOf(item) { return item.price; }
function stockOf(item) { return item.stock; }
class Basket {
  constructor(id) { this.id = id; }
  total() { return this.items.price; }
  remove(line) { if (!this[line]) throw new Error(`Basket ${this.id} has no line ${line}`); }
}
function deep(n) { return deep(n + 1) + 1; }
async function reserve(order) { throw new Error(`Could not reserve stock for order ${order}`); }
function log(level, msg, err) {
  const line = { level, time: Date.now(), pid: process.pid, hostname: 'web' + next(9), reqId: crypto.randomUUID(), msg };
  if (err) line.err = { type: err.name, message: err.message, stack: err.stack };
  console.error(JSON.stringify(line));
}
function caught(call) { try { call(); } catch (error) { return error; } }

const faults = {
  'undefined-price': () => priceOf(undefined),
  'undefined-stock': () => stockOf(undefined),
  'undefined-price-basket': () => new Basket(hex(12)).total(),
  'reference': () => voucherTotal,
  'json': () => JSON.parse('<html>' + name() + next(1000)),
  'json-end': () => JSON.parse('{"order": ' + next(100000)),
  'no-line': () => new Basket(hex(12)).remove(next(100)),
  'enoent': () => fs.readFileSync(`/srv/shop/exports/${name()}-${next(100000)}.json`),
  'stack': () => deep(next(10)),
  'refused': () => http.get(`http://127.0.0.1:1/v2/orders/${hex(16)}`),
  'url': () => new URL(`//${name()}${next(1000)}`),
  'assert': () => require('assert').strictEqual(next(1000), -1),
  'unhandled': () => reserve(next(1000000)),
  'payment-declined': () => payments.charge(`pay_${hex(20)}`),
  'payment-currency': () => payments.convert(['GBP', 'SEK', 'DKK', 'PLN'][next(4)]),
  'cause': () => { try { reserve2(); } catch (cause) { throw new Error(`Order ${next(100000)} failed`, { cause }); } },
  'headers': () => { const r = new http.ServerResponse({ method: 'GET', httpVersionMajor: 1, httpVersionMinor: 1 }); r.writeHead(200); r.setHeader('X-Order', 1); },
  'json-log-payment': () => log(50, `Payment ${crypto.randomUUID()} of order ${next(100000)} failed: card expired`),
  'json-log-slow': () => log(40, `Query took ${next(90000)} ms: SELECT * FROM orders WHERE customer = '${name()}'`),
  'json-log-total': () => log(50, 'request failed', caught(() => new Basket(hex(12)).total())),
  'json-log-line': () => log(50, 'request failed', caught(() => new Basket(hex(12)).remove(next(100)))),
  'json-log-charge': () => log(50, 'request failed', caught(() => payments.charge(`pay_${hex(20)}`))),
};
function reserve2() { throw new TypeError(`Bad SKU ${hex(6).toUpperCase()}`); }
faults[kind]();

//// node_modules/@acme/payments/index.js
module.exports = require('./lib/charge.js');

//// node_modules/@acme/payments/lib/charge.js
exports.charge = function charge(id) {
  const error = new Error(`Charge ${id} was declined`);
  error.code = 'card_declined';
  throw error;
};
exports.convert = function convert(currency) { throw new RangeError(`No rate for ${currency}`); };
