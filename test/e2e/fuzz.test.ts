import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { cancelAll, good, importSmall, launch, newSmallPlace, personOf } from './small-place.ts'
import { HOME, type Things, uhostCalls, wuyingCalls } from './valid-calls.ts'
import {
  type Answer,
  assertEnvelope,
  type Door,
  type Flat,
  type Sent,
  signedUhost,
  signedV1,
  wuyingV3,
} from './wire.ts'

const REQUEST_COUNT = 2000
const AT_ONCE = 8
const RSS_MIB_MAX = 200

/** Numbers that a seed gives again: mulberry32. */
function dice(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const VALUES = [
  ...[
    '',
    ' ',
    '0',
    '-1',
    '1',
    '1.5',
    '1e9',
    '99999999999999999999',
    'NaN',
    'true',
    'null',
    'undefined',
    '[]',
    '{}',
  ],
  ...[
    '[1]',
    '{"a":1}',
    '{"ImageId":null}',
    '{"ImageId":{"a":1}}',
    '../../etc/passwd',
    '%00',
    '\u0000',
    '\n',
    '\r\n\r\n',
  ],
  ...[
    "'",
    '"',
    "' or '1'='1",
    '<script>',
    '$(id)',
    '{{7*7}}',
    '\u202e',
    '\ufeff',
    '\u{1f600}',
    'é',
    'e\u0301',
  ],
  ...[
    'a'.repeat(63),
    'a'.repeat(64),
    'a'.repeat(129),
    'x'.repeat(5000),
    'cn-hangzhou',
    'hk',
    'org-1',
    'm-',
    'ecd-x',
  ],
  ...[
    `m-${'0'.repeat(17)}`,
    `uhost-${'z'.repeat(17)}`,
    'True',
    'Windows',
    'SYSTEM',
    'acs:x',
    'http://x',
    '2026-01-01T00:00:00Z',
  ],
]
const NAMES = [
  '__proto__',
  'constructor',
  'toString',
  'RegionId',
  'Region',
  'ProjectId',
  'Tag.1.Key',
  'Tag.1',
  'Disks.0',
  'a.b.c',
]
const HEADERS = [
  'content-type',
  'accept',
  'authorization',
  'x-acs-action',
  'x-acs-date',
  'host',
  'expect',
  'cookie',
]
/** What says whose request it is, and in which form its answer comes. */
const SYSTEM = new Set(['Action', 'PublicKey', 'Format'])
const PLACE = new Set(['RegionId', 'Region', 'ProjectId'])

type Roll = ReturnType<typeof dice>
const pick = <T>(roll: Roll, from: readonly T[]): T => from[roll(from.length)] as T

/** Other parameters, to be signed well: they get past the door's lock. */
function otherParameters(roll: Roll, given: Flat): Flat {
  // No prototype, so that '__proto__' is a name like any other.
  const changed: Record<string, string> = Object.assign(Object.create(null), given)
  for (let i = roll(3); i >= 0; i--) {
    // A bad place ends a request early; most keep a good one, to be refused further in.
    const keepsPlace = roll(4) > 0
    const names = Object.keys(changed).filter(
      (name) => !(SYSTEM.has(name) || (keepsPlace && PLACE.has(name))),
    )
    const name = names.length === 0 ? pick(roll, NAMES) : pick(roll, names)
    const value = changed[name] ?? ''
    switch (roll(7)) {
      case 0:
        delete changed[name]
        break
      case 1:
        changed[`${name}.${roll(3)}`] = pick(roll, VALUES)
        break
      case 2:
        changed[pick(roll, NAMES)] = pick(roll, VALUES)
        break
      case 3:
        changed[name] = value.slice(0, roll(value.length + 1)).toWellFormed()
        break
      case 4:
        changed[name.toLowerCase()] = value
        break
      default:
        changed[name] = pick(roll, VALUES)
    }
  }
  return changed
}

/** Other bytes under the same signature, as far as a client can send them at all. */
function otherBytes(roll: Roll, sent: Sent): Sent {
  const spoil = (text: string): string => {
    if (text.length === 0) return text
    const at = roll(text.length)
    const more = [text[at] ?? '', '&', '=', '%', '%ff', '%00', '.', '&Action=x', '{', '"', '+'][roll(11)]
    return [
      () => text.slice(0, at),
      () => text.slice(0, at) + text.slice(at + 1 + roll(20)),
      () => text.slice(0, at) + more + text.slice(at),
      () => text.slice(0, at) + String.fromCharCode(33 + roll(93)) + text.slice(at + 1),
      () => `${text}&${text.slice(at)}`,
    ][roll(5)]?.() as string
  }
  const name = pick(roll, HEADERS)
  switch (roll(5)) {
    case 0:
      return { ...sent, url: sent.url[0] === '/' ? `/${spoil(sent.url.slice(1))}` : sent.url }
    case 1:
    case 2:
      return { ...sent, body: Buffer.from(spoil(sent.body.toString('latin1')), 'latin1') }
    case 3: {
      const value = [
        '',
        'application/json',
        'text/plain; charset=x',
        'ACS3-HMAC-SHA256 a',
        'Bearer x',
        '*/*',
      ][roll(6)]
      return { ...sent, headers: { ...sent.headers, [name]: value ?? '' } }
    }
    default:
      return { ...sent, method: pick(roll, ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS']) }
  }
}

function doorOf({ json }: Answer): Door | 'index' {
  if (json.RetCode !== undefined) return 'uhost'
  if (json.service === 'calotype') return 'index'
  return json.RequestId === undefined ? 'native' : 'wuying'
}

test('whatever is sent, the answer is well-formed and no fault of the server', async (t) => {
  const seed = Number(process.env.CALOTYPE_FUZZ_SEED ?? randomInt(2 ** 32))
  t.diagnostic(`CALOTYPE_FUZZ_SEED=${seed}`)
  const roll = dice(seed)
  const place = await newSmallPlace(t)
  const root = personOf(place)
  const base = await importSmall(root, 'base', 'base')
  const custom = await importSmall(root, 'custom', 'custom')
  const machines = await launch(root, base, 4)
  const { projects } = await good<{ projects: { id: string }[] }>(root.native('GET', '/v1/projects'))
  const things: Things = {
    project: projects[0]?.id ?? '',
    otherProject: '',
    base: () => base,
    image: () => custom,
    copy: () => custom,
    ...{ copying: () => custom, copyTask: () => '', cancelledCopy: () => '' },
    ...{ webhook: () => '', rule: () => '' },
    cleaned: () => custom,
    running: () => pick(roll, machines),
    stopped: () => pick(roll, machines),
    snapshot: () => `s-${'0'.repeat(17)}`,
    policy: () => `policy-${'0'.repeat(17)}`,
    upload: () => '0'.repeat(17),
    task: () => '',
    user: () => 'root',
  }
  const { key, endpoint } = place.server

  const next = (): { readonly door: Door | undefined; readonly sent: Sent } => {
    const door = pick(roll, ['wuying', 'uhost'] as const)
    const [name, call] = pick(roll, Object.entries(door === 'wuying' ? wuyingCalls : uhostCalls))
    const good = call(things)
    const isSignedWell = roll(3) > 0
    const given = isSignedWell ? otherParameters(roll, good) : good
    const method = pick(roll, ['GET', 'POST'] as const)
    const sent =
      door === 'uhost'
        ? signedUhost(key, name, given, { method })
        : roll(2) === 0
          ? signedV1(key, name, given, { method })
          : wuyingV3(endpoint, key, name, given)
    return isSignedWell ? { door, sent } : { door: undefined, sent: otherBytes(roll, sent) }
  }

  const seen = new Map<string, number>()
  for (let at = 0; at < REQUEST_COUNT; at += AT_ONCE) {
    const batch = Array.from({ length: AT_ONCE }, next)
    const answers = await Promise.all(batch.map(({ sent }) => place.wire.send(sent)))
    for (const [index, answer] of answers.entries()) {
      const { door, sent } = batch[index] as (typeof batch)[number]
      const asked = `${sent.method} ${sent.url} ${sent.body.toString('latin1').slice(0, 2000)}`
      const said = doorOf(answer)
      if (door !== undefined) assert.equal(said, door, `${asked}: ${answer.text}`)
      assert.ok(answer.status < 500 && answer.json.RetCode !== 150, `${asked}: ${answer.text}`)
      if (said !== 'index') assertEnvelope(said, answer)
      const word = `${said} ${answer.json.Code ?? answer.json.RetCode ?? answer.status}`
      seen.set(word, (seen.get(word) ?? 0) + 1)
    }
  }
  // It got past the lock often enough to be worth something, and was refused for many reasons.
  assert.ok((seen.get('uhost 0') ?? 0) > 50 && (seen.get('wuying 200') ?? 0) > 50, JSON.stringify([...seen]))
  assert.ok(seen.size > 20, JSON.stringify([...seen]))

  await cancelAll(root)
  assert.equal((await root.wuying('DescribeRegions', { RegionId: HOME })).status, 200)
  const status = readFileSync(`/proc/${place.server.process?.pid}/status`, 'utf8')
  const rssMib = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
  t.diagnostic(`resident: ${rssMib.toFixed(0)} MiB; ${[...seen].map((pair) => pair.join(': ')).join(', ')}`)
  assert.ok(rssMib < RSS_MIB_MAX, `${rssMib} MiB`)
})
