// As much of CBOR (RFC 8949) as a payload uses: numbers, byte strings, texts, lists, maps, true, false and null. Numbers
// are BigInt up to 64 bits, except keys of maps; byte strings are Uint8Array.

export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const take = (n) => bytes.subarray(at, (at += n))
  const argument = (info) => {
    if (info < 24) return BigInt(info)
    const size = 1 << (info - 24)
    if (size > 8) throw new Error(`additional information ${info}`)
    at += size
    return [() => BigInt(view.getUint8(at - 1)), () => BigInt(view.getUint16(at - 2)), () => BigInt(view.getUint32(at - 4)),
      () => view.getBigUint64(at - 8)][info - 24]()
  }
  const item = () => {
    const [head] = take(1)
    const major = head >> 5, info = head & 31
    if (major === 7) return { 20: false, 21: true, 22: null }[info]
    const n = argument(info)
    switch (major) {
      case 0: return n
      case 1: return -1n - n
      case 2: return take(Number(n)).slice()
      case 3: return new TextDecoder('utf-8', { fatal: true }).decode(take(Number(n)))
      case 4: return Array.from({ length: Number(n) }, item)
      case 5: return new Map(Array.from({ length: Number(n) }, () => [Number(item()), item()]))
    }
    throw new Error(`major type ${major}`)
  }
  const value = item()
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes too many`)
  return value
}

// encode writes the shortest form, keys in order: the one accepted encoding.
export function encode(value) {
  const out = []
  const head = (major, n) => {
    if (n < 24n) return out.push((major << 5) | Number(n))
    const size = n < 1n << 8n ? 0 : n < 1n << 16n ? 1 : n < 1n << 32n ? 2 : 3
    out.push((major << 5) | (24 + size))
    for (let i = (1 << size) - 1; i >= 0; i--) out.push(Number((n >> BigInt(8 * i)) & 255n))
  }
  const item = (v) => {
    switch (true) {
      case typeof v === 'bigint': return v < 0n ? head(1, -1n - v) : head(0, v)
      case typeof v === 'number': return item(BigInt(v))
      case typeof v === 'boolean': return out.push(v ? 0xf5 : 0xf4)
      case v === null: return out.push(0xf6)
      case v instanceof Uint8Array: return head(2, BigInt(v.length)), out.push(...v)
      case typeof v === 'string': {
        const text = new TextEncoder().encode(v)
        return head(3, BigInt(text.length)), out.push(...text)
      }
      case Array.isArray(v): return head(4, BigInt(v.length)), v.forEach(item)
      case v instanceof Map: {
        head(5, BigInt(v.size))
        for (const [k, w] of [...v].sort(([a], [b]) => a - b)) item(k), item(w)
        return
      }
    }
    throw new Error(`${v} has no encoding`)
  }
  item(value)
  return Uint8Array.from(out)
}
