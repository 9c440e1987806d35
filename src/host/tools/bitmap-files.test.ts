import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isFaultOf } from '../suite.ts'
import {
  bitmapName,
  changeBitmaps,
  type Outcome,
  prepareFile,
  readBitmaps,
  settleFile,
  tellChanges,
} from './bitmaps.ts'
import { createOverlay } from './folders.ts'
import { runTool } from './run.ts'

const doing = { doing: 'A test', package: 'qemu-utils', timeoutMs: 30_000 }

/** A disk's file, and a tool that fails where the words of its command match. */
async function around(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-bitmaps-'))
  const { PATH } = process.env
  t.after(async () => {
    process.env.PATH = PATH
    await rm(folder, { recursive: true })
  })
  const path = join(folder, 'd.qcow2')
  const fresh = async () => {
    await rm(path, { force: true })
    await createOverlay(path, 64 * 1024 * 1024)
  }
  /** With '' none fails. */
  const failing = async (words: string) => {
    process.env.PATH = words === '' ? PATH : `${folder}:${PATH}`
    const tool = join(folder, 'qemu-img')
    const script = `case "$*" in *'${words}'*) echo 'No space left on device' >&2; exit 1;; esac`
    await writeFile(tool, `#!/bin/sh\n${script}\nPATH='${PATH}' exec qemu-img "$@"\n`)
    await chmod(tool, 0o755)
  }
  const add = (key: string) => changeBitmaps(path, [{ do: 'add', name: bitmapName(key) }])
  const disable = (key: string) =>
    runTool('qemu-img', ['bitmap', '--disable', '-f', 'qcow2', path, bitmapName(key)], doing)
  const write = (offset: string) =>
    runTool('qemu-io', ['-f', 'qcow2', '-c', `write -P 7 ${offset} 256k`, path], doing)
  const names = async () => (await readBitmaps(path)).map((one) => one.name).sort()
  return { path, fresh, failing, add, disable, write, names }
}

test('a tool that fails while a capture ends leaves no bitmap that is trusted and not whole', async (t) => {
  const { path, fresh, failing, add, disable, write } = await around(t)
  for (const outcome of ['given-up', 'taken'] satisfies Outcome[])
    for (const words of ['--merge', '--enable', '--remove', '--', '']) {
      await fresh()
      await add('K1')
      // The moment of K2, after which the guest writes, and ends in order.
      await disable('K1')
      await add('K2')
      await write('8M')
      await failing(words)
      await settleFile(path, 'K2', { since: 'K1', outcome, wasStill: false })
      await failing('')
      const isTrusted = tellChanges(await readBitmaps(path), 'K3', 'K1').changes !== undefined
      // The write, which only the second knew of, is in the first if that is believed.
      const isWhole = outcome === 'given-up' && ['--remove', ''].includes(words)
      assert.equal(isTrusted, isWhole, `${outcome} ${words}`)
    }
})

test("another capture's bitmap that cannot be taken out costs the changes alone", async (t) => {
  const { path, fresh, failing, add, disable, names } = await around(t)
  await fresh()
  await add('K1')
  await add('old')
  await disable('old')
  await failing('--remove')
  const { changes, changesWhy } = await prepareFile(path, 'K2', 'K1')
  assert.equal(changes, undefined)
  assert.match(changesWhy, /could not be put in order/)
  assert.deepEqual(await prepareFile(path, 'K2', undefined), { changesWhy: '' })
  await failing('')
  assert.ok((await prepareFile(path, 'K2', 'K1')).changes)
  assert.deepEqual(await names(), ['c-K1'])
})

test("a capture's own earlier bitmap must go before its moment", async (t) => {
  const { path, fresh, failing, add, names } = await around(t)
  await fresh()
  await add('K1')
  await add('K2')
  await failing('--remove')
  await assert.rejects(prepareFile(path, 'K2', 'K1'), isFaultOf('full'))
  await failing('')
  assert.ok((await prepareFile(path, 'K2', 'K1')).changes)
  assert.deepEqual(await names(), ['c-K1'])
})
