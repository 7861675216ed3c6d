// What ethers makes of objects of Souk. It reads one request as JSON from standard input and writes its answers as JSON to
// standard output; the test that runs it compares. Nothing of Souk's code is used here: payloads are decoded, hashed and
// signed as docs/protocol says.

import {
  concat, decryptKeystoreJson, encryptKeystoreJson, getBytes, hexlify, keccak256, recoverAddress, toUtf8Bytes,
  TypedDataEncoder, verifyTypedData, Wallet, id as hashOf,
} from 'ethers'
import { readFileSync } from 'node:fs'
import { decode, encode } from './cbor.mjs'
import { kinds } from './kinds.mjs'

const request = JSON.parse(readFileSync(0, 'utf8'))
const { market } = request
const domain = {
  name: 'Souk', version: '1', chainId: market.chainId, verifyingContract: market.contract, salt: '0x' + market.id,
}

// refOf is the hash by which a payload is referred to, and what is signed where a kind is no typed data.
function refOf(kind, payload) {
  const name = toUtf8Bytes(`souk/${kind}/1`)
  return keccak256(concat([Uint8Array.of(name.length), name, '0x' + market.id, payload]))
}

// hex makes byte strings what ethers reads.
const hex = (v) => v instanceof Uint8Array ? hexlify(v) : Array.isArray(v) ? v.map(hex) : v
const typed = (kind, payload) => {
  const value = kind.value(decode(payload))
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, hex(v)]))
}

// look says what an object's type, hashes and signer are.
async function look({ kind: name, payload, signature }) {
  const bytes = getBytes('0x' + payload)
  const answer = { kind: name, ref: refOf(name, bytes), again: hexlify(encode(decode(bytes))) }
  const kind = kinds[name]
  if (!kind) {
    return { ...answer, digest: answer.ref, signer: recoverAddress(answer.ref, '0x' + signature) }
  }
  const value = typed(kind, bytes)
  const type = TypedDataEncoder.from(kind.types).encodeType(kind.name)
  return {
    ...answer, type, typeHash: hashOf(type),
    structHash: TypedDataEncoder.hashStruct(kind.name, kind.types, value),
    digest: TypedDataEncoder.hash(domain, kind.types, value),
    signer: verifyTypedData(domain, kind.types, value, '0x' + signature),
    signature: await new Wallet('0x' + request.key).signTypedData(domain, kind.types, value),
  }
}

// vouch makes a voucher from its members, as a wallet's owner would: encoded here, signed by the wallet of a phrase.
async function vouch({ phrase, members }) {
  const wallet = Wallet.fromPhrase(phrase), kind = kinds.voucher
  const value = { ...members, signer: wallet.address }
  const fields = kind.fields(Object.fromEntries(kind.types.Voucher.map(({ name, type }) =>
    [name, type.startsWith('uint') ? BigInt(value[name]) : getBytes(value[name])])))
  return {
    signer: wallet.address,
    payload: hexlify(encode(fields)),
    signature: await wallet.signTypedData(domain, kind.types, value),
  }
}

// open reads a keystore, and keep writes one for the same key under the same passphrase, as a wallet does.
async function open({ json, passphrase }) {
  const { address, privateKey } = await decryptKeystoreJson(json, passphrase)
  return { address, privateKey }
}
const keep = ({ privateKey, passphrase }) => {
  const { address } = new Wallet(privateKey)
  return encryptKeystoreJson({ address, privateKey }, passphrase)
}

const answer = {}
if (request.objects) {
  answer.separator = TypedDataEncoder.hashDomain(domain)
  answer.objects = await Promise.all(request.objects.map(look))
}
if (request.vouch) answer.voucher = await vouch(request.vouch)
if (request.open) answer.opened = await open(request.open)
if (request.keep) answer.kept = await keep(request.keep)
process.stdout.write(JSON.stringify(answer))
