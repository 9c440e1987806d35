import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { VolumeFault } from '../volume-fault.ts'
import { createAppliance, type TimeLimits } from './start.ts'
import { readWords, type Word } from './words.ts'

async function wordsOf(...chunks: string[]): Promise<Word[]> {
  const words: Word[] = []
  for await (const word of readWords(Readable.from(chunks.map((chunk) => Buffer.from(chunk, 'latin1')))))
    words.push(word)
  return words
}

const isRefused = (error: unknown) =>
  isFault(error, 'conflict') && error.subject === 'volume' && error.reason === 'damaged'

test('words are read however they are cut', async () => {
  assert.deepEqual(await wordsOf('u', 'p\nchecked 0 1', '2\nfailed 3 full\ndo', 'ne\nready\nrea'), [
    { is: 'up' },
    { is: 'checked', volume: 0, code: 12 },
    { is: 'failed', order: 3, reason: 'full' },
    { is: 'done' },
    { is: 'ready' },
  ])
})

test('anything else is a refusal', async () => {
  const lines = [
    '',
    'Up',
    'up ',
    'checked 1',
    'checked -1 0',
    'checked 1 0 0',
    'checked 1000 0',
    'failed 0 rm',
  ]
  for (const line of [...lines, 'failed x full', '\u0000', '\u00ff', 'x'.repeat(41)])
    await assert.rejects(wordsOf(`${line}\n`), isRefused, line)
  await assert.rejects(wordsOf('x'.repeat(1 << 20)), isRefused)
  await assert.rejects(wordsOf('up\n'.repeat(201)), isRefused)
  assert.deepEqual(await wordsOf('at 12\n'), [{ is: 'at', volume: 12 }])
})

/** Programs with QEMU's name stand before it, and behave as a guest in foreign hands may. */
let folder: string
const path = process.env.PATH
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'appliance-'))
  process.env.PATH = `${folder}:${path}`
})
after(async () => {
  process.env.PATH = path
  await rm(folder, { recursive: true, force: true })
})

async function startWith(script: string, timeLimits: Partial<TimeLimits> = {}) {
  const qemu = join(folder, 'qemu-system-x86_64')
  const version = '[ "$1" != --version ] || { echo "QEMU emulator version 7.2.0"; exit; }'
  await writeFile(qemu, `#!/bin/sh\n${version}\n${script}\n`)
  await chmod(qemu, 0o755)
  const runFolder = await mkdtemp(join(folder, 'run-'))
  await mkdir(runFolder, { recursive: true })
  const start = createAppliance({ cacheFolder: join(folder, 'cache'), acceleration: 'tcg', timeLimits })
  return await start({
    folder: runFolder,
    disks: [{ sizeBytes: 1 << 20, socketPath: join(runFolder, 'none'), exportName: '' }],
    volumes: [{ diskIndex: 0, offset: 0, lengthBytes: 1 << 20, mountPoint: '' }],
    signal: new AbortController().signal,
  })
}

test('a guest that babbles, or tells what it was not asked, is cut', async () => {
  const answers = [
    'yes',
    'yes up',
    'cat /dev/zero',
    'echo ready; exec sleep 1000',
    'echo up; echo checked 1 0; exec sleep 1000',
  ]
  for (const script of [
    ...answers,
    'echo up; echo checked 0 0; echo done; exec sleep 1000',
    'echo up; exit 0',
  ])
    await assert.rejects(startWith(`exec 2> /dev/null\n${script}`), isRefused, script)
})

test('a guest that lies about its orders is cut', async () => {
  const appliance = await startWith(
    'echo up; echo checked 0 0; echo ready; echo checked 0 0; exec sleep 1000',
  )
  assert.deepEqual(appliance.checks, ['clean'])
  await assert.rejects(appliance.apply([{ volume: 0, edits: [{ is: 'remove', path: ['x'] }] }]), isRefused)
})

test('what ends the work is the fault of the volume where it was', async () => {
  const remove = { volume: 0, edits: [{ is: 'remove', path: ['x'] }] } as const
  for (const words of ['failed 0 full', 'yes']) {
    const appliance = await startWith(
      `echo up; echo checked 0 0; echo ready; echo at 0; echo ${words}; exec sleep 1000`,
    )
    await assert.rejects(
      appliance.apply([remove]),
      (error) => error instanceof VolumeFault && error.volume === 0,
    )
  }
  const elsewhere = await startWith('echo up; echo checked 0 0; echo ready; echo at 1; exec sleep 1000')
  await assert.rejects(elsewhere.apply([remove]), isRefused)
})

test('a guest that says nothing is ended: before its first word by us, later for its file systems', async () => {
  await assert.rejects(startWith('exec sleep 1000', { bootMs: 50 }), (error) => isFault(error, 'unavailable'))
  const limits = { workMs: 50, workMsPerGib: 0 }
  await assert.rejects(
    startWith('echo up; exec sleep 1000', limits),
    (error) => isFault(error, 'conflict') && error.reason === 'too-large',
  )
})

test('the last words of a QEMU that fails are in the cause alone', async () => {
  const isTold = (error: unknown) =>
    isFault(error, 'unavailable') &&
    !error.message.includes('private') &&
    error.cause instanceof Error &&
    error.cause.message.includes('private words')
  await assert.rejects(startWith('echo private words >&2; exit 1'), isTold)
  await assert.rejects(startWith('echo up; echo private words >&2; exit 1'), isTold)
})

test('what fails in a guest is told by what the caller can do', async () => {
  for (const [reason, kind] of [
    ['full', 'conflict'],
    ['io', 'unavailable'],
    ['odd', 'conflict'],
    ['unclean', 'conflict'],
    ['cut', 'unavailable'],
  ] as const) {
    const appliance = await startWith(
      `echo up; echo checked 0 3; echo ready; echo failed 0 ${reason}; exec sleep 1000`,
    )
    await assert.rejects(
      appliance.apply([{ volume: 0, edits: [{ is: 'remove', path: ['x'] }] }]),
      (error) => isFault(error, kind),
      reason,
    )
  }
  await assert.rejects(startWith('echo up; echo checked 0 64; exec sleep 1000'), (error) =>
    isFault(error, 'unavailable'),
  )
})
