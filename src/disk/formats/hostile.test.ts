import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { refused } from './checks.fixture.ts'
import { hostileFiles } from './hostile.fixture.ts'
import { inspect } from './inspect.ts'
import { bufferSource } from './source.ts'

const CANARY_PATH = '/tmp/canary-that-nobody-reads'
const VIRTUAL_BYTES_MAX = 2 ** 41

for (const file of hostileFiles()) {
  test(`class ${file.attackClass}: ${file.name} is refused: ${file.reason}`, async () => {
    const source = bufferSource(file.make(CANARY_PATH))
    const work = () => inspect(source, { declared: file.declared, virtualBytesMax: VIRTUAL_BYTES_MAX })
    if (file.stage === 'unpacking') {
      assert.equal((await work()).is, 'packed')
      return
    }
    await refused(file.reason, work)
    await assert.rejects(work, (error) => isFault(error) && !error.message.includes('canary'))
  })
}

test('each class of attacks that a file can bring is there', () => {
  const classes = new Set(hostileFiles().map(({ attackClass }) => attackClass))
  for (const attackClass of [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13]) assert.ok(classes.has(attackClass))
})
