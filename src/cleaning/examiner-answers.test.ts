import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { parseFailure, parseLook, parsePlanned, parseScrubAnswer } from './examiner-answers.ts'

const PLANNED = {
  refused: [{ volume: 1, reason: 'dirty', message: 'It is dirty.' }],
  plan: {
    edits: [
      { volume: 0, operation: 'homes', edit: { is: 'remove', path: ['home', 'a\nb', '\udc80'] } },
      { volume: 0, operation: 'machine-id', edit: { is: 'write', path: ['x'], content: '\n', mode: 0o644 } },
      { volume: 0, operation: 'logs', edit: { is: 'link', path: ['y'], target: '../z' } },
    ],
    removed: [
      {
        ...{ volume: 0, path: '/home/a', operation: 'homes', how: 'removed' },
        ...{ fileCount: 1, directoryCount: 2, bytes: 3, parts: [{ name: 'other', fileCount: 1, bytes: 3 }] },
      },
    ],
    kept: [{ volume: 0, path: '/root', why: 'it is root' }],
    secrets: [{ volume: 0, path: '/etc/key', kind: 'private key' }],
    warnings: ['look out'],
    mountPoints: { 0: '/' },
    refusals: [{ volume: 0, message: 'no' }],
  },
}
const LOOK = {
  disks: [
    {
      scheme: 'gpt',
      volumes: [
        {
          ...{ partition: 1, offset: 0, lengthBytes: 9, kind: 'ntfs', title: 'NTFS' },
          opened: { label: 'a', needsReplay: false },
        },
        {
          ...{ partition: 2, offset: 0, lengthBytes: 9, kind: 'other', title: 'LUKS', reason: 'encrypted' },
          refusal: { reason: 'encrypted', message: 'm' },
        },
      ],
    },
  ],
}
const SCRUBBED = { gapBytes: 1, volumes: [{ volume: 0, places: [{ what: 'journal', count: 1, bytes: 2 }] }] }
const FAULT = { is: 'fault', kind: 'conflict', subject: 'volume', reason: 'full', message: 'm', volume: 0 }
const BUG = { is: 'bug', name: 'TypeError', places: ['a.ts:1:2'], volume: -1 }

test('right answers are taken as they are', () => {
  assert.deepEqual(parsePlanned(PLANNED), PLANNED)
  assert.deepEqual(parseLook(LOOK), LOOK)
  assert.deepEqual(parseScrubAnswer(SCRUBBED), SCRUBBED)
  assert.deepEqual(parseFailure(FAULT).fault.reason, 'full')
  assert.ok(isFault(parseFailure(BUG).fault, 'conflict'))
})

/** Every value of a tree replaced, in turn, by each of the odd ones. */
function* mutations(value: unknown): Generator<unknown> {
  yield* [null, undefined, -1, 1.5, Number.NaN, 2 ** 60, 'odd', '', {}, [], [[]], { length: 9 }, true]
  if (typeof value !== 'object' || value === null) return
  for (const [name, member] of Object.entries(value)) {
    for (const odd of mutations(member)) {
      if (Array.isArray(value)) yield value.map((one, index) => (String(index) === name ? odd : one))
      else yield { ...value, [name]: odd }
    }
  }
}

test('odd answers are a fault, or an answer of the right shape', () => {
  const cases = [
    [parsePlanned, PLANNED],
    [parseLook, LOOK],
    [parseScrubAnswer, SCRUBBED],
    [parseFailure, FAULT],
    [parseFailure, BUG],
  ] as const
  let refusedCount = 0
  for (const [parse, right] of cases) {
    for (const odd of mutations(right)) {
      try {
        parse(odd)
      } catch (error) {
        assert.ok(isFault(error, 'unavailable') && error.reason === 'examiner', String(error))
        refusedCount++
      }
    }
  }
  assert.ok(refusedCount > 300, `${refusedCount} refused`)
})

test('texts lose control characters and their length; paths go down and nowhere else', () => {
  const long = `a\u001b[31m\u202eb\n${'x'.repeat(5000)}`
  const { plan } = parsePlanned({
    refused: [],
    plan: { ...PLANNED.plan, kept: [{ volume: 0, path: long, why: long }] },
  })
  assert.match(plan?.kept[0]?.path ?? '', /^a\ufffd\[31m\ufffdb\ufffdx+$/)
  assert.equal(plan?.kept[0]?.path.length, 4096)
  for (const name of ['..', '.', '', 'a/b', 'a\0b']) {
    const edits = [{ volume: 0, operation: 'homes', edit: { is: 'remove', path: ['a', name] } }]
    assert.throws(() => parsePlanned({ refused: [], plan: { ...PLANNED.plan, edits } }))
  }
})
