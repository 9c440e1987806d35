import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { test } from 'node:test'
import type { RefusalReason } from '../../src/disk/formats/contract.ts'
import type { HostileFile } from '../../src/disk/formats/hostile-file.fixture.ts'
import { inspect } from '../../src/disk/formats/inspect.ts'
import { bufferSource } from '../../src/disk/formats/source.ts'
import { isFault } from '../../src/image/fault.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { allHostileFiles } from './hostile-more.ts'
import {
  assertHoldsAsBefore,
  type HostilePlace,
  heldAfterHarmless,
  newHostilePlace,
} from './hostile-place.ts'
import { byAddress, byFolder, byUpload, forEach, type Way } from './hostile-ways.ts'
import { wordsIn, wordsInCatalog, wordsInFolder } from './secret-words.ts'

const DISK_BYTES_MAX = 2 ** 41
/** Every file on every way takes minutes. */
const IS_WHOLE = process.env.CALOTYPE_TEST_WAYS === 'all'
/** What a person is told of a file that is refused once it is unpacked. */
const UNPACKED: Partial<Readonly<Record<RefusalReason, RegExp>>> = {
  'too-large': /unpacks to more than .* its size/,
  packing: /packed twice|damaged or cut off/,
  'backing-file': /another file/,
  extents: /other files/,
}

/** What is said of a file by the very inspector that a server asks; checked for being this refusal. */
async function whyInspected(file: HostileFile, bytes: Buffer): Promise<string> {
  const options = { declared: file.declared, virtualBytesMax: DISK_BYTES_MAX }
  const error = await inspect(bufferSource(bytes), options).then(
    () => assert.fail(`${file.name} was taken`),
    (thrown: unknown) => thrown,
  )
  assert(isFault(error, 'invalid') && error.reason === file.reason, `${file.name}: ${String(error)}`)
  return error.message
}

async function bring(place: HostilePlace, way: Way, file: HostileFile, path: string): Promise<string> {
  const bytes = file.make(path)
  const reason = await way(place, { name: file.name, bytes, declared: file.declared })
  if (file.stage === 'inspection') assert.equal(reason, await whyInspected(file, bytes), file.name)
  else assert.match(reason, UNPACKED[file.reason] ?? /^$/, file.name)
  assert.deepEqual(await place.tools.startedQemu(), [], `${file.name}: nothing of QEMU was started`)
  await place.canary.assertUnread()
  return reason
}

/** Those that go this one of three ways: by turns, but the first of each kind of refusal in each class goes them all. */
function filesOf(way: number): HostileFile[] {
  const seen = new Set<string>()
  return allHostileFiles().filter(({ attackClass, reason, stage }, index) => {
    const kind = `${attackClass} ${reason} ${stage}`
    const isFirst = !seen.has(kind)
    seen.add(kind)
    return IS_WHOLE || isFirst || index % 3 === way
  })
}

test('every hostile file is refused on every way in, before any reader exists, and nothing is left of it', async (t) => {
  const place = await newHostilePlace(t)
  const { canary } = place
  const before = await heldAfterHarmless(place)
  const reasons: string[] = []
  const ways = [
    { what: 'import folder', way: byFolder, files: filesOf(0), path: canary.pipe },
    { what: 'upload', way: byUpload, files: filesOf(1), path: canary.file },
    { what: 'address', way: byAddress, files: filesOf(2), path: canary.file },
  ]
  for (const { what, way, files: some, path } of ways) {
    await t.test(what, async () => {
      await forEach(some, async (file) => {
        reasons.push(await bring(place, way, file, path))
      })
      await assertHoldsAsBefore(place, before)
      t.diagnostic(`${some.length} files through: ${what}`)
    })
  }
  for (const reason of reasons) assert.doesNotMatch(reason, /canary/i, 'no reason has words of the file')
  // Bytes of the canary, should anybody have read them: in what is stored, logged or remembered.
  const { secret } = canary
  const { native } = place.server
  const answers = [
    await native.call('GET', '/v1/images', { query: { region: HOME } }),
    await native.call('GET', '/v1/tasks', { query: { limit: 500 } }),
    await native.call('GET', '/v1/uploads', { query: { region: HOME } }),
  ]
  assert.deepEqual(wordsIn(JSON.stringify(answers), [secret]), [])
  assert.deepEqual(await wordsInFolder(place.data, [secret]), [])
  assert.deepEqual(wordsInCatalog(place.data, [secret]), [])

  // The watch itself: a reader that somebody opens is seen.
  const reader = await open(canary.pipe, constants.O_RDONLY | constants.O_NONBLOCK)
  await assert.rejects(canary.assertUnread(), /opened the canary/)
  await reader.close()
})
