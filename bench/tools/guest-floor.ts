import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { runTool } from '../../src/host/tools/run.ts'

const UP = 'calotype-guest up '

/** Waits until the guest behind this console log says that it is up. Throws when it has not within two minutes. */
export async function untilUp(consoleLog: string, isGone: () => boolean = () => false): Promise<void> {
  for (const untilMs = performance.now() + 120_000; performance.now() < untilMs; await delay(10)) {
    if (readText(consoleLog).includes(UP)) return
    if (isGone()) throw new Error(`the guest ended before it was up: ${readText(consoleLog).slice(-300)}`)
  }
  throw new Error(`the guest did not come up: ${readText(consoleLog).slice(-300)}`)
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** The words that a running process was started with. */
export function wordsOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
}

interface Node {
  'node-name'?: string
  driver: string
  file?: { filename?: string }
}

/** The same machine with its files elsewhere, and a disk file of this host where its image export was. */
function onLocalDisk(words: readonly string[], folders: readonly [string, string][], base: string): string[] {
  const moved = words.map((word) => folders.reduce((text, [from, to]) => text.replaceAll(from, to), word))
  return moved
    .filter((word) => word !== '-daemonize')
    .map((word) => {
      if (!word.startsWith('{')) return word
      const node = JSON.parse(word) as Node
      if (node.driver !== 'nbd') return word
      const file = { driver: 'file', filename: base, 'read-only': true }
      return JSON.stringify({ 'node-name': node['node-name'], driver: 'raw', 'read-only': true, file })
    })
}

/**
 * Starts a guest with the words of one of ours, over a new overlay on `base` itself: no server, no export, no
 * catalog. Answers the seconds until it says that it is up, and ends it.
 */
export async function bootLocally(
  words: readonly string[],
  machineFolder: string,
  base: string,
): Promise<number> {
  const monitor = words[words.indexOf('-qmp') + 1] ?? ''
  const runDirectory = dirname(monitor.replace(/^unix:/, '').replace(/,.*$/, ''))
  const folder = await mkdtemp(join(tmpdir(), 'calo-'))
  let child: ChildProcess | undefined
  try {
    const [program = '', ...args] = onLocalDisk(
      words,
      [
        [machineFolder, folder],
        [runDirectory, folder],
      ],
      base,
    )
    const overlay = args
      .filter((word) => word.startsWith('{'))
      .map((word) => JSON.parse(word) as Node)
      .find((node) => node.driver === 'qcow2')?.file?.filename
    if (overlay === undefined) throw new Error('the guest has a disk of its own')
    const beginMs = performance.now()
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, overlay], {
      doing: 'Making an overlay',
      package: 'qemu-utils',
      timeoutMs: 60_000,
    })
    child = spawn(program, args, { stdio: 'ignore' })
    const running = child
    await untilUp(join(folder, 'console.log'), () => running.exitCode !== null)
    return (performance.now() - beginMs) / 1000
  } finally {
    if (child !== undefined && child.exitCode === null) {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
    await rm(folder, { recursive: true, force: true })
  }
}
