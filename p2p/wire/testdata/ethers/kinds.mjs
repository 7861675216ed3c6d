// The kinds of objects that are signed as EIP-712 typed data, written down a second time, by hand and without Souk's code:
// a line is the number of a field in the payload, the member's type and its name.

import { computeAddress, hexlify } from 'ethers'

function struct(name, lines, special = {}) {
  const members = lines.trim().split('\n').map((line) => {
    const [number, type, name] = line.trim().split(' ')
    return { path: number.split('.').map(Number), type, name, read: special[name] ?? ((v) => v) }
  })
  return {
    name,
    types: { [name]: members.map(({ name, type }) => ({ name, type })) },
    // value takes a decoded payload, a Map of numbers, to what the typed data says.
    value: (payload) => Object.fromEntries(members.map((m) => [m.name, m.read(m.path.reduce((map, n) => map.get(n), payload))])),
    // fields are those of a payload without maps inside: for objects that are made here.
    fields: (value) => new Map(members.map((m) => [m.path[0], value[m.name]])),
  }
}

export const kinds = {
  charter: struct('Charter', `
    1 bytes16 salt
    2 string name
    3 uint64 founded
    4 uint64 chainId
    5 address contract
    6 address[] operators
    7 uint64 threshold
    8 bool testnet
    9 uint64 slot
    10 bytes32 extension
  `, { operators: (keys) => keys.map((k) => computeAddress(hexlify(k))) }),

  credential: struct('Credential', `
    1 bytes subject
    2 address issuer
    3 bytes32 delegation
    4 address owner
    5 address sponsor
    6 uint64 roles
    7 uint64 tier
    8 string alias
    9 uint64 maxGpus
    10 uint128 hourlyLimit
    11 address payout
    12 uint64 serial
    13 uint64 notBefore
    14 uint64 notAfter
    15 bool witness
    16 string netPrefix
    17 bytes32 attestations
    18 bytes32 extension
  `),

  deposit: struct('Deposit', `
    1 address operator
    2 address account
    3 uint128 amount
    4 string ref
    5 uint64 at
    6 uint64 entry
    7 bytes32 extension
  `),

  reservation: struct('Reservation', `
    1 bytes16 id
    2 uint64 sequence
    3 address operator
    4 address consumer
    5 address signer
    6 address host
    7 bytes16 lease
    8 uint128 cap
    9 uint128 maxRate
    10 uint64 opened
    11 uint64 redeemBy
    12 uint64 entry
    13 bytes32 extension
  `),

  terms: struct('LeaseTerms', `
    1 bytes16 lease
    2 uint64 sequence
    3 bytes32 prev
    4 address host
    5 address consumer
    6 address signer
    7 address attendant
    8 bytes16 bid
    9 string kind
    10 uint64 gpus
    11 string model
    12 uint128 rate
    13.1 uint128 gpuRate
    13.2 uint128 zeroGpuRate
    13.3 uint128 diskRunningRate
    13.4 uint128 volumeRunningRate
    13.5 uint128 volumeStoppedRate
    14 uint64 disk
    15 uint64 volume
    16 bytes16 volumeId
    17 uint64 notice
    18 uint64 grace
    19 uint64 minutes
    20 uint64 stopAt
    21 uint128 budget
    22 uint64 onEnd
    23 bool resume
    24 uint64 hold
    25 string isolation
    26 bytes32 spec
    27 string image
    28 bytes32 sshHostKey
    29 bytes32 quote
    30 bytes16 reservation
    31 uint64 policy
    32 bytes16 parent
    33 bool simulated
    34 bytes32 extension
  `, { kind: (number) => ({ 1: 'on-demand', 2: 'spot' })[number] }),

  amendment: struct('Amendment', `
    1 bytes16 lease
    2 uint64 sequence
    3 bytes32 prev
    4 bytes32 terms
    5 uint64 from
    6 address signer
    7 bytes32 extension
  `),

  voucher: struct('Voucher', `
    1 bytes16 reservation
    2 bytes16 lease
    3 address signer
    4 address host
    5 uint128 total
    6 uint64 minute
    7 bytes32 usage
    8 uint64 sequence
    9 bytes32 extension
  `),

  mandate: struct('Mandate', `
    1 address consumer
    2 bytes16 lease
    3 uint64 sequence
    4 bytes16 reservation
    5 uint64 from
    6 uint64 until
    7 uint128 maxTotal
    8 uint64 maxUnattended
    9 uint64 quorum
    10 address attendant
    11 bool revocable
    12 bytes32 extension
  `),
}
