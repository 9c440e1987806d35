import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { buildHive, type HiveOptions, type HiveTree, profileListTree, sealHive } from './hive.fixture.ts'
import { type KeyPath, parseHive } from './hive.ts'

const LIST: KeyPath = ['Microsoft', 'Windows NT', 'CurrentVersion', 'ProfileList']
const ALICE = 'S-1-5-21-1-2-3-1001'
const BOB = 'S-1-5-21-1-2-3-1002'
const SOFTWARE = profileListTree({
  'S-1-5-18': '%systemroot%\\system32\\config\\systemprofile',
  [ALICE]: 'C:\\Users\\alice-canary',
  [BOB]: 'C:\\Users\\李雷',
})

test('keys and values are found whatever their case, in every kind of list', () => {
  for (const list of ['lf', 'lh', 'li', 'ri'] as const) {
    const hive = parseHive(buildHive(SOFTWARE, { list, leafCount: 2 }))
    assert.equal(hive.isDirty, false)
    assert.deepEqual(hive.keys([]), ['Microsoft'])
    assert.deepEqual(hive.keys(LIST), ['S-1-5-18', ALICE, BOB])
    assert.deepEqual(hive.keys(['MICROSOFT', 'windows nt', 'CURRENTversion', 'profilelist', 's-1-5-18']), [])
    assert.equal(hive.keys(['Microsoft', 'Windows']), undefined)
    assert.equal(hive.value([...LIST, BOB], 'profileimagepath'), 'C:\\Users\\李雷')
    assert.equal(hive.value([...LIST, BOB], 'State'), 0)
    assert.equal(hive.value([...LIST, BOB], 'absent'), undefined)
    assert.equal(hive.value(['absent'], 'State'), undefined)
  }
})

test('values have the type they are written with', () => {
  const tree: HiveTree = {
    values: {
      '': 'the default',
      größe: 0xffff_fffe,
      名: { type: 3, data: Buffer.from([1, 2, 3]) },
      empty: { type: 3, data: Buffer.alloc(0) },
      short: { type: 4, data: Buffer.from([1]) },
      large: { type: 3, data: Buffer.alloc(100_000, 'abc') },
      huge: { type: 3, data: Buffer.alloc((1 << 20) + 1) },
    },
  }
  for (const minorVersion of [3, 5]) {
    const hive = parseHive(buildHive(tree, { minorVersion }))
    assert.equal(hive.value([], ''), 'the default')
    assert.equal(hive.value([], 'GRÖßE'), 0xffff_fffe)
    assert.deepEqual(hive.value([], '名'), Buffer.from([1, 2, 3]))
    assert.deepEqual(hive.value([], 'empty'), Buffer.alloc(0))
    assert.deepEqual(hive.value([], 'short'), Buffer.from([1]))
    assert.deepEqual(hive.value([], 'large'), Buffer.alloc(100_000, 'abc'))
    assert.equal(hive.value([], 'huge'), undefined)
  }
})

const SHAPES: readonly HiveOptions[] = [
  { list: 'lf' },
  { list: 'lh', minorVersion: 5 },
  { list: 'li' },
  { list: 'ri', leafCount: 1 },
  { list: 'ri', leafCount: 7, minorVersion: 6 },
]

function manyKeys(gone: string): HiveTree {
  const keys: Record<string, HiveTree> = {}
  for (let index = 0; index < 40; index += 1) {
    const isGone = index % 3 === 0
    keys[`key ${index}`] = {
      className: isGone ? gone : `class ${index}`,
      security: isGone && index % 2 === 0 ? `${gone} ${index}` : `shared ${index % 2}`,
      values: {
        [isGone ? gone : 'stays']: isGone ? gone : `text ${index}`,
        number: index,
        large: { type: 3, data: Buffer.alloc(30_000, isGone ? gone : `kept ${index}`) },
      },
      keys: {
        deep: { keys: { deeper: { values: { [isGone ? gone : 'kept']: isGone ? `${gone} deep` : index } } } },
      },
    }
  }
  return { keys: { list: { keys } } }
}

test('keys go out with all beneath and leave no byte, and every other key stays as it is', () => {
  const gone = 'CANARY-乙'
  for (const options of SHAPES) {
    const before = buildHive(manyKeys(gone), { ...options, litter: 'LITTER' })
    const kept = structuredClone(before)
    const hive = parseHive(before)
    const paths = (hive.keys(['list']) ?? [])
      .filter((name) => Number(name.slice(4)) % 3 === 0)
      .map((name) => ['LIST', name.toUpperCase()])
    const after = hive.without([...paths, ['absent'], ['list', 'absent', 'too'], ...paths.slice(0, 2)])
    assert(before.equals(kept), 'the bytes that were read stay as they are')
    assert.equal(after.length, before.length)
    for (const encoding of ['utf8', 'utf16le', 'latin1'] as const) {
      assert.equal(after.includes(Buffer.from(gone, encoding)), false)
      assert.equal(after.includes(Buffer.from('CANARY', encoding)), false)
    }
    assert.equal(after.includes('LITTER'), false)
    assert.deepEqual(dump(after), dump(buildHive(onlyKept(manyKeys(gone)), options)))
    assert(parseHive(after).without([]).equals(after), 'nothing is left to do')
  }
})

test('a key whose last subkey goes has no list any more, and can be emptied in steps', () => {
  for (const options of SHAPES) {
    let bytes = buildHive(SOFTWARE, options)
    for (const sid of [BOB, 'S-1-5-18', ALICE]) bytes = parseHive(bytes).without([[...LIST, sid]])
    assert.deepEqual(parseHive(bytes).keys(LIST), [])
    assert.equal(parseHive(bytes).value(LIST, 'Public'), '%SystemDrive%\\Users\\Public')
    bytes = parseHive(bytes).without([['microsoft']])
    assert.deepEqual(parseHive(bytes).keys([]), [])
    assert.equal(bytes.includes(Buffer.from('Users', 'utf16le')), false)
  }
})

test('a hive that was not closed can be read and not changed', () => {
  const hive = parseHive(buildHive(SOFTWARE, { isDirty: true }))
  assert.equal(hive.isDirty, true)
  assert.deepEqual(hive.keys([]), ['Microsoft'])
  assert.throws(
    () => hive.without([]),
    (error) => isFault(error, 'conflict') && error.reason === 'dirty',
  )
})

test('what is no hive, or one of another version, is refused', () => {
  const good = buildHive(SOFTWARE)
  const change = (at: number, value: number): Buffer => {
    const bytes = Buffer.from(good)
    bytes.writeUInt32LE(value, at)
    return sealHive(bytes)
  }
  const refused = (bytes: Buffer, reason: string): void => {
    assert.throws(
      () => parseHive(bytes).without([]),
      (error) => isFault(error, 'conflict') && error.reason === reason,
    )
  }
  refused(Buffer.alloc(0), 'damaged')
  refused(Buffer.alloc(8192), 'damaged')
  refused(good.subarray(0, 4096), 'damaged')
  refused(change(0x14, 2), 'unsupported')
  refused(change(0x18, 2), 'unsupported')
  refused(change(0x1c, 1), 'unsupported')
  refused(change(0x28, 1 << 30), 'damaged')
  refused(change(0x24, 0xffff_fff8), 'damaged')
  const torn = Buffer.from(good)
  torn[0x30] = 1
  refused(torn, 'damaged')
})

test('a changed hive is refused or read, and never anything else', () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 0x7fff_ffff))
  console.log(`seed ${seed}`)
  let state = seed >>> 0 || 1
  const random = (limit: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
  const bases = SHAPES.slice(0, 4).map((options) => buildHive(SOFTWARE, { ...options, leafCount: 2 }))
  const odd = [0, 1, 8, 0x20, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff]
  let refusedCount = 0
  for (let round = 0; round < 3000; round += 1) {
    const bytes = Buffer.from(bases[round % bases.length] ?? Buffer.alloc(0))
    const usedBytes = bytes.length
    for (let count = 1 + random(4); count > 0; count -= 1) {
      const at = (random(4) === 0 ? 0 : 4096 + 32) + random(random(4) === 0 ? 64 : 3000)
      if (at + 4 > usedBytes) continue
      if (random(2) === 0) bytes[at] = random(256)
      else bytes.writeUInt32LE(random(3) === 0 ? random(4096) & ~7 : (odd[random(odd.length)] ?? 0), at & ~3)
    }
    try {
      const hive = parseHive(sealHive(bytes))
      walk(hive, [])
      const after = hive.without([[...LIST, ALICE]])
      assert.equal(after.length, bytes.length)
      assert(parseHive(after).without([]).equals(after))
    } catch (error) {
      assert(isFault(error, 'conflict') && error.subject === 'volume', String(error))
      assert(!error.message.includes('alice'))
      refusedCount += 1
    }
  }
  assert(refusedCount > 100)
})

type Dump = readonly [path: string, values: readonly unknown[]][]

/** Every key with the values that the trees of these tests have. */
function dump(bytes: Buffer): Dump {
  const hive = parseHive(bytes)
  const found: [string, readonly unknown[]][] = []
  const waiting: KeyPath[] = [[]]
  for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
    const at = path
    const values = ['stays', 'number', 'large', 'kept'].map((name) => hive.value(at, name))
    found.push([path.join('\\'), values])
    for (const name of hive.keys(path) ?? []) waiting.push([...path, name])
  }
  return found
}

function onlyKept(tree: HiveTree): HiveTree {
  const keys = Object.entries(tree.keys?.list?.keys ?? {})
  return {
    keys: { list: { keys: Object.fromEntries(keys.filter(([name]) => Number(name.slice(4)) % 3 !== 0)) } },
  }
}

/** A hive in circles has paths without end: some steps are enough. */
function walk(hive: ReturnType<typeof parseHive>, path: KeyPath): void {
  for (const name of hive.keys(path)?.slice(0, 4) ?? []) if (path.length < 6) walk(hive, [...path, name])
  hive.value(path, 'ProfileImagePath')
}
