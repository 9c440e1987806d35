import { execFile } from 'node:child_process'
import { TOOL_MISSING } from '../host/tools/run.ts'
import { Fault } from '../image/fault.ts'
import { bareEnvironment, type Isolation } from '../isolation/isolation.ts'
import type { ProcessLimits } from '../isolation/limits.ts'
import { findToolIsolation, rememberWorking } from '../isolation/tool.ts'

export const READER = 'qemu-nbd'
const GIB = 1024 ** 3
/**
 * QEMU takes memory for tables before it looks at them, so what is inspected has to fit: most of this is addresses of thread
 * stacks and of arenas of malloc, not memory.
 */
const ADDRESS_BYTES_MAX = 4 * GIB
/** Sockets of clients, and few of its own. */
const OPEN_FILE_COUNT_MAX = 256
/** QEMU's own pool has 64 threads at most. */
const PROCESS_COUNT_MAX = 96
/** Enough for compressed clusters at 16 MiB/s, all of them read twice, and for whatever opening takes. */
const CPU_SECONDS_LEAST = 300
const CPU_SECONDS_PER_GIB = 128

/** Of the process that reads one disk of so many bytes. */
export function readerLimits(sizeBytes: number): ProcessLimits {
  return {
    cpuSeconds: CPU_SECONDS_LEAST + (sizeBytes / GIB) * CPU_SECONDS_PER_GIB,
    openFileCount: OPEN_FILE_COUNT_MAX,
    fileBytes: 0,
    addressBytes: ADDRESS_BYTES_MAX,
    processCount: PROCESS_COUNT_MAX,
  }
}

/** What can hold QEMU's reader here; remembered once it works. */
export const readerIsolation = rememberWorking(async (): Promise<Isolation> => {
  const isHere = await isInstalled()
  const isolation = await findToolIsolation(isHere ? [READER, '--version'] : ['true'], readerLimits(0))
  const reader = {
    name: `QEMU's reader of other formats (${READER})`,
    isThere: isHere,
    detail: "Install 'qemu-utils'. Without it, only raw disks can be brought in.",
  }
  const filter = {
    name: 'a filter of system calls',
    isThere: false,
    detail: `Neither ${READER} nor util-linux brings one. Nothing has to be done: the parts above hold without it.`,
  }
  return {
    ...isolation,
    isWorking: isHere && isolation.isWorking,
    facts: [reader, ...isolation.facts, filter],
  }
})

/** As `readerIsolation`; Fault 'unavailable' 'host' where it does not work. */
export async function getReaderIsolation(): Promise<Isolation> {
  const isolation = await readerIsolation()
  if (isolation.isWorking) return isolation
  if (isolation.facts[0]?.isThere === false) {
    const message = `'${READER}' is not installed, so that only raw disks can be brought in. Install the package 'qemu-utils'.`
    throw new Fault('unavailable', message, { subject: 'host', reason: TOOL_MISSING })
  }
  const message =
    "QEMU's tools cannot be shut in on this host, so that none is started and only raw disks can be brought in. Install 'util-linux', or let the service change users. If it was so already, the host may be too busy: try again."
  throw new Fault('unavailable', message, {
    subject: 'host',
    reason: 'isolation',
    cause: isolation.failure,
  })
}

function isInstalled(): Promise<boolean> {
  return new Promise((resolve) => {
    const options = { timeout: 30_000, killSignal: 'SIGKILL', env: bareEnvironment(), cwd: '/' } as const
    execFile(READER, ['--version'], options, (error) => resolve(error === null))
  })
}
