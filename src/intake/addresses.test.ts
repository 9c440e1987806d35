import assert from 'node:assert/strict'
import { BlockList } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Address, formatAddress, isWithin, kindOf, parseAddress, parseRange } from './addresses.ts'

/**
 * Everything in IANA's special-purpose registries that is not globally reachable, and what is not given out to anybody:
 * written down a second time, and judged by Node's own list.
 */
const REGISTRY_4 = [
  ...[
    '0.0.0.0/8',
    '0.0.0.0/32',
    '10.0.0.0/8',
    '100.64.0.0/10',
    '127.0.0.0/8',
    '169.254.0.0/16',
    '172.16.0.0/12',
  ],
  ...['192.0.0.0/24', '192.0.0.0/29', '192.0.0.8/32', '192.0.0.170/32', '192.0.0.171/32', '192.0.2.0/24'],
  ...[
    '192.88.99.0/24',
    '192.168.0.0/16',
    '198.18.0.0/15',
    '198.51.100.0/24',
    '203.0.113.0/24',
    '224.0.0.0/4',
  ],
  ...['240.0.0.0/4', '255.255.255.255/32', '168.63.129.16/32'],
]
const REGISTRY_6 = [
  ...[
    '::1/128',
    '::/128',
    '64:ff9b:1::/48',
    '100::/64',
    '100:0:0:1::/64',
    '2001::/23',
    '2001::/32',
    '2001:2::/48',
  ],
  ...[
    '2001:10::/28',
    '2001:db8::/32',
    '2002::/16',
    '3fff::/20',
    '5f00::/16',
    'fc00::/7',
    'fe80::/10',
    'ff00::/8',
  ],
  // Not given out: all that is not 2000::/3.
  ...[
    '::/8',
    '100::/8',
    '200::/7',
    '400::/6',
    '800::/5',
    '1000::/4',
    '4000::/3',
    '6000::/3',
    '8000::/3',
    'a000::/3',
  ],
  ...['c000::/3', 'e000::/4', 'f000::/5', 'f800::/6', 'fc00::/6', 'fec0::/10'],
]
const judge4 = blockList(REGISTRY_4)
const judge6 = blockList(REGISTRY_6)

function blockList(ranges: readonly string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) {
    const [address = '', bits] = range.split('/')
    list.addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4')
  }
  return list
}

const kind = (text: string) => kindOf(parseAddress(text) ?? never())

test('addresses: nothing in the registries is public, nor its edges; what is beside them is', () => {
  for (const text of [...REGISTRY_4, ...REGISTRY_6]) {
    const range = parseRange(text)
    assert.ok(range !== undefined, text)
    const widthBits = range.family === 4 ? 32 : 128
    const lengthCount = 1n << BigInt(widthBits - range.prefixBits)
    for (const bits of [
      range.bits,
      range.bits + lengthCount - 1n,
      range.bits - 1n,
      range.bits + lengthCount,
    ]) {
      if (bits < 0n || bits >> BigInt(widthBits) !== 0n) continue
      const address: Address = { family: range.family, bits }
      const shown = formatAddress(address)
      const isBlocked = judgeOf(shown)
      if (isBlocked) assert.notEqual(kindOf(address), 'public', shown)
      else assert.equal(kindOf(address), 'public', shown)
    }
  }
})

/** Node's list knows mapped and translated addresses as IPv6 alone. */
function judgeOf(text: string): boolean {
  const address = parseAddress(text)
  assert.ok(address !== undefined)
  const shown = formatAddress(address)
  if (address.family === 4) return judge4.check(shown, 'ipv4')
  const translated = parseRange('64:ff9b::/96')
  assert.ok(translated !== undefined)
  if (isWithin(translated, address)) {
    return judge4.check(formatAddress({ family: 4, bits: address.bits & 0xffffffffn }), 'ipv4')
  }
  return judge6.check(shown, 'ipv6')
}

test('addresses: any address is judged as the registries say', () => {
  const seed = Date.now() & 0x7fffffff
  console.log(`seed ${seed}`)
  fc.assert(
    fc.property(fc.bigInt(0n, (1n << 32n) - 1n), (bits) => {
      const address = { family: 4 as const, bits }
      assert.equal(kindOf(address) === 'public', !judgeOf(formatAddress(address)))
    }),
    { seed, numRuns: 5_000 },
  )
  const interesting = fc.oneof(
    fc.bigInt(0n, (1n << 128n) - 1n),
    fc.bigInt(0n, (1n << 125n) - 1n).map((bits) => bits | (1n << 125n)),
    fc.bigInt(0n, (1n << 32n) - 1n).map((bits) => bits | (0x0064_ff9bn << 96n)),
    fc.bigInt(0n, (1n << 113n) - 1n).map((bits) => bits | (0x2001n << 112n)),
  )
  fc.assert(
    fc.property(interesting, (bits) => {
      const address = { family: 6 as const, bits }
      const marker = (bits >> 32n) & 0xffffffffn
      fc.pre(marker !== 0x5efen && marker !== 0x2005efen)
      assert.equal(kindOf(address) === 'public', !judgeOf(formatAddress(address)))
    }),
    { seed, numRuns: 5_000 },
  )
})

test('addresses: one that carries an IPv4 address is no better than it', () => {
  for (const inner of ['127.0.0.1', '10.1.2.3', '169.254.169.254', '100.100.100.200', '0.0.0.0']) {
    for (const spelling of [`::ffff:${inner}`, `::${inner}`, `64:ff9b::${inner}`, `::ffff:0:${inner}`]) {
      assert.notEqual(kind(spelling), 'public', spelling)
    }
    const hex = formatAddress({ family: 6, bits: parseAddress(inner)?.bits ?? 0n }).split(':')
    const [high, low] = hex.slice(-2)
    for (const spelling of [
      `2002:${high}:${low}::1`,
      `2001:0:4136:e378:8000:63bf:${high}:${low}`,
      `2a00:1450::5efe:${high}:${low}`,
      `2a00:1450::200:5efe:${high}:${low}`,
      `::ffff:${high}:${low}`,
    ]) {
      assert.notEqual(kind(spelling), 'public', spelling)
    }
  }
  assert.equal(kind('::ffff:93.184.215.14'), 'public')
  assert.equal(kind('64:ff9b::93.184.215.14'), 'public')
  assert.equal(kind('64:ff9b:1::93.184.215.14'), 'internal')
})

test('addresses: what gives away keys of a cloud is told from the rest', () => {
  for (const text of [
    ...[
      '169.254.169.254',
      '169.254.170.2',
      '100.100.100.200',
      '100.80.80.80',
      '168.63.129.16',
      '192.0.0.192',
    ],
    ...[
      'fd00:ec2::254',
      'fd20:ce::254',
      'fd00:42::42',
      'fe80::a9fe:a9fe',
      '64:ff9b::a9fe:a9fe',
      '::ffff:a9fe:a9fe',
    ],
  ]) {
    assert.equal(kind(text), 'metadata', text)
  }
})

test('addresses: any address written is read as itself, and as every program reads it', () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const address: Address = parseAddress(text) ?? never()
      if (address.family === 4) return
      assert.deepEqual(parseAddress(formatAddress(address)), address)
      assert.equal(
        new URL(`http://[${text}]`).hostname,
        new URL(`http://[${formatAddress(address)}]`).hostname,
      )
    }),
  )
  fc.assert(fc.property(fc.ipV4(), (text) => formatAddress(parseAddress(text) ?? never()) === text))
  for (const text of [
    '',
    '1.2.3',
    '01.2.3.4',
    '1.2.3.4.5',
    'fe80::1%eth0',
    '::1%1',
    '1::2::3',
    '[::1]',
    ' 1.2.3.4',
  ]) {
    assert.equal(parseAddress(text), undefined, text)
  }
})

function never(): Address {
  throw new Error('no address')
}

test('addresses: ranges', () => {
  const range = parseRange('10.1.2.3/8')
  assert.ok(range !== undefined)
  assert.equal(formatAddress(range), '10.0.0.0')
  assert.equal(parseRange('::ffff:10.0.0.0/104')?.prefixBits, 8)
  assert.equal(parseRange('1.2.3.4')?.prefixBits, 32)
  for (const text of [
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '::/129',
    '::ffff:0:0/8',
    'x/8',
    '/8',
  ]) {
    assert.equal(parseRange(text), undefined, text)
  }
})
