import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type Line, type Relay, startRelay } from './netem-relay.ts'

/** The link of the bench: 200 Mbit/s, and 25 ms one way. */
export const LINE: Line = { bytesPerSecond: 25e6, delayMs: 25 }

/** Between processes of this machine. Servers are reached over it on 127.0.0.1. */
export interface Link {
  /** netem: the kernel's, in a network namespace of its own; relay: a process of ours that holds back what passes it. */
  readonly kind: 'netem' | 'relay'
  /** Why it is not the kernel's. */
  readonly note?: string
  /** The command as it has to be started for the link to lie between it and the others that were. */
  inside(command: readonly string[]): readonly string[]
  /** The port at which who is inside reaches a server that listens on `port` inside. */
  reach(port: number): Promise<number>
  /**
   * What crossed the link so far. relay: what came to the one who connected, TLS and HTTP included. netem: packets of both
   * directions.
   */
  movedBytes(): number
  close(): Promise<void>
}

const SHAPE = [
  'delay',
  `${LINE.delayMs}ms`,
  'rate',
  `${(LINE.bytesPerSecond * 8) / 1e6}mbit`,
  'limit',
  '10000',
]

export async function openLink(): Promise<Link> {
  const tried = await netemLink()
  return typeof tried === 'string' ? relayLink(tried) : tried
}

/** Or why there is none. */
async function netemLink(): Promise<Link | string> {
  if (process.getuid?.() !== 0) return 'only root makes network namespaces'
  const shape = `ip link set lo up && tc qdisc add dev lo root netem ${SHAPE.join(' ')}`
  // The namespace lives as long as this process, and this process until its input ends, which it does with us.
  const holder = spawn('unshare', ['--net', '--', 'sh', '-c', `${shape} && echo ready && exec cat`], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let complaint = ''
  holder.stderr.on('data', (bytes: Buffer) => {
    complaint = (complaint + bytes.toString()).slice(-1000)
  })
  const lines = createInterface({ input: holder.stdout })
  const closed = once(holder, 'close').then(
    () => [],
    (error: Error) => {
      complaint = error.message
      return []
    },
  )
  const [said] = (await Promise.race([once(lines, 'line'), closed])) as [string?]
  if (said !== 'ready') {
    await closed
    return `no netem here: ${complaint.trim().replaceAll('\n', ' ')}`
  }
  const enter = ['nsenter', `--net=/proc/${holder.pid}/ns/net`, '--']
  if (spawnSync(enter[0] ?? '', [...enter.slice(1), 'true']).status !== 0) {
    await end(holder)
    return 'nsenter does not enter the network namespace'
  }
  return {
    kind: 'netem',
    inside: (command) => [...enter, ...command],
    reach: async (port) => port,
    movedBytes() {
      const text = readFileSync(`/proc/${holder.pid}/net/dev`, 'utf8')
      return Number(text.match(/^\s*lo:\s*(\d+)/m)?.[1] ?? Number.NaN)
    },
    close: () => end(holder),
  }
}

async function end(holder: ChildProcess): Promise<void> {
  const over = once(holder, 'close')
  holder.stdin?.end()
  await over
}

function relayLink(note: string): Link {
  const relays: Relay[] = []
  return {
    ...{ kind: 'relay', note },
    inside: (command) => command,
    async reach(port) {
      const relay = await startRelay(port, LINE)
      relays.push(relay)
      return relay.port
    },
    movedBytes: () => relays.reduce((sum, relay) => sum + relay.movedBytes(), 0),
    async close() {
      await Promise.all(relays.map((relay) => relay.close()))
    },
  }
}
