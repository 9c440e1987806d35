import { readdir, readFile, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../suite.ts'

export type AgentAnswer = { readonly return: unknown } | { readonly error: { readonly desc: string } }

/**
 * What answers a command instead of the agent's own way. 'silence' says nothing; 'cut' ends the connection; bytes are
 * sent as they are. Nothing else is obeyed before it has ended.
 */
export type Script = (own: () => AgentAnswer) => Promise<AgentAnswer | Buffer | 'silence' | 'cut'>

/**
 * A guest agent with its channel, for tests: one client at a time, one command at a time, and hardly a command while
 * frozen. Source: QEMU 7.2, qga/main.c (ga_freeze_allowlist) and qga/qapi-schema.json.
 */
export class FakeAgent {
  readonly path: string
  /** The commands that came, with those of synchronising left out. */
  readonly calls: string[] = []
  /** All that was heard, be it obeyed yet or not. */
  readonly heard: string[] = []
  readonly scripts = new Map<string, Script>()
  readonly disabled = new Set<string>()
  os: Record<string, unknown> = { id: 'debian', name: 'Debian GNU/Linux', 'pretty-name': 'Debian 12' }
  fileSystemCount = 2
  isFrozen = false
  /** Is said to every client as soon as it is heard: what an earlier one did not wait for. */
  stale: Buffer = Buffer.alloc(0)
  /** What QEMU knows of the guest. */
  isRunning = true
  isOpen = true
  readonly #server: Server
  #clients: Socket[] = []
  #work: Promise<void> = Promise.resolve()

  private constructor(path: string) {
    this.path = path
    this.#server = createServer((socket) => this.#queue(socket))
  }

  static async start(path: string): Promise<FakeAgent> {
    const agent = new FakeAgent(path)
    await new Promise<void>((resolve) => agent.#server.listen(path, resolve))
    return agent
  }

  /** The part of QEMU's monitor that is asked about the channel. */
  readonly qmp = {
    execute: async (command: string): Promise<unknown> =>
      command === 'query-status'
        ? { running: this.isRunning }
        : [
            { label: 'console', 'frontend-open': true },
            { label: 'agent', 'frontend-open': this.isOpen },
          ],
  }

  get clientCount(): number {
    return this.#clients.length
  }

  async close(): Promise<void> {
    for (const socket of this.#clients) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
    await rm(this.path, { force: true })
  }

  #queue(socket: Socket): void {
    this.#clients.push(socket)
    socket.on('error', () => {})
    socket.on('close', () => {
      const wasFirst = this.#clients[0] === socket
      this.#clients = this.#clients.filter((one) => one !== socket)
      if (wasFirst) this.#hear()
    })
    if (this.#clients.length === 1) this.#hear()
  }

  #hear(): void {
    const socket = this.#clients[0]
    if (socket === undefined) return
    if (this.stale.length > 0) socket.write(this.stale)
    let text = ''
    socket.on('data', (bytes) => {
      const lines = (text + String(bytes)).split('\n')
      text = lines.pop() ?? ''
      // The sentinel, which is no character, drops what came before it.
      for (const line of lines) this.#enqueue(socket, line.slice(line.lastIndexOf('\ufffd') + 1))
    })
  }

  #enqueue(socket: Socket, line: string): void {
    const command = JSON.parse(line)
    this.heard.push(command.execute)
    this.#work = this.#work.then(() => this.#obey(socket, command))
  }

  async #obey(socket: Socket, command: { execute: string; arguments?: Record<string, unknown> }) {
    const { execute } = command
    const isSync = execute === 'guest-sync-delimited'
    if (!isSync) this.calls.push(execute)
    const own = () => (isSync ? { return: command.arguments?.id } : this.#answer(execute))
    const answer = await (this.scripts.get(execute) ?? (async (own) => own()))(own)
    if (answer === 'silence') return
    if (answer === 'cut') socket.destroy()
    else if (Buffer.isBuffer(answer)) socket.write(answer)
    else socket.write(`${isSync ? '\xff' : ''}${JSON.stringify(answer)}\n`, 'latin1')
    // As a real one, it does not answer two clients in one breath.
    await sleep(0)
  }

  #answer(execute: string): AgentAnswer {
    const isOfFreezing = execute.startsWith('guest-fsfreeze') || execute === 'guest-info'
    if (this.disabled.has(execute) || (this.isFrozen && !isOfFreezing))
      return { error: { desc: `Command ${execute} has been disabled` } }
    switch (execute) {
      case 'guest-info':
        return { return: { version: '7.2', supported_commands: this.#commands() } }
      case 'guest-get-osinfo':
        return { return: this.os }
      case 'guest-fstrim':
        return { return: { paths: [] } }
      case 'guest-fsfreeze-status':
        return { return: this.isFrozen ? 'frozen' : 'thawed' }
      case 'guest-fsfreeze-freeze':
        this.isFrozen = this.fileSystemCount > 0
        return { return: this.fileSystemCount }
      case 'guest-fsfreeze-thaw': {
        const count = this.isFrozen ? this.fileSystemCount : 0
        this.isFrozen = false
        return { return: count }
      }
      default:
        return { error: { desc: `The command ${execute} has not been found` } }
    }
  }

  #commands() {
    const names = ['guest-fstrim', 'guest-get-osinfo', 'guest-fsfreeze-status', 'guest-fsfreeze-freeze']
    return [...names, 'guest-fsfreeze-thaw', 'guest-ping'].map((name) => ({
      name,
      enabled: !this.disabled.has(name),
      'success-response': true,
    }))
  }
}

/** The processes that hold, or try, a freeze of this agent's guest. */
export async function guardPids(agent: FakeAgent): Promise<number[]> {
  const pids: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const line = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (line.includes('freeze-guard') && line.includes(agent.path)) pids.push(Number(name))
  }
  return pids
}

export function untilUnguarded(agent: FakeAgent): Promise<void> {
  return until('the guard to end', async () => (await guardPids(agent)).length === 0)
}

/** As somebody from outside might. */
export async function killGuards(agent: FakeAgent): Promise<void> {
  for (const pid of await guardPids(agent)) process.kill(pid, 'SIGKILL')
  await untilUnguarded(agent)
}
