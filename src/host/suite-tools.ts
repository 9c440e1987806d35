import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FaultKind, isFault } from '../image/fault.ts'
import { type MachineId, newId } from '../image/ids.ts'
import type { DiskBus, ExportedDisk, ExportRequest, Host, MachineDisk, MachineSpec } from './contract.ts'

export const MEBIBYTE = 1 << 20
export const SECTOR_BYTES = 512

export interface StatusRun {
  readonly offset: number
  readonly lengthBytes: number
  readonly status: number
}

/** What the suite needs around one implementation. */
export interface HostFixture {
  readonly host: Host
  /** Another driver over the same machines, as after a restart of our process. */
  reopen(): Promise<Host>
  /** An NBD export that holds `bytes`. */
  serveBase(bytes: Buffer): Promise<NonNullable<MachineDisk['base']>>
  readExport(disk: ExportedDisk, offset: number, lengthBytes: number): Promise<Buffer>
  /** What a meta context of the disk's map export says of the whole disk, in rising order without gaps. */
  readStatus(disk: ExportedDisk, context: string): Promise<readonly StatusRun[]>
  /** Content of a system disk that boots the guest below. */
  bootDisk(sizeBytes: number): Buffer
  /** Absent where guests are never started. */
  readonly guest?: {
    /** What the guest says when it is up. */
    readonly banner: string
    /** Fills a sector from inside the guest and waits for its answer. */
    fill(host: Host, id: MachineId, disk: number, sector: number, character: string): Promise<void>
    /** Ends the hypervisor's process without asking the guest. */
    crash(id: MachineId): Promise<void>
  }
  /** Files, sockets and processes that mention the machine. */
  leftovers(id: MachineId): Promise<string[]>
  close(): Promise<void>
}

/** Asks until the answer is true; a test fails only after a time that no healthy machine needs. */
export async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await check())) {
    assert.ok(performance.now() < end, `still waiting: ${what}`)
    await sleep(10)
  }
}

export function isFaultOf(kind: FaultKind): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isFault(error, kind), `wanted a Fault '${kind}', got ${error}`)
    return true
  }
}

export const never = (): AbortSignal => new AbortController().signal

export function specOf(disks: readonly MachineDisk[]): MachineSpec {
  const memoryBytes = 32 * MEBIBYTE
  return { id: newId('machine'), name: 'suite', cpuCount: 1, memoryBytes, firmware: 'bios', disks }
}

export function diskOf(bus: DiskBus, sizeBytes: number, base?: MachineDisk['base']): MachineDisk {
  return { id: newId('disk'), sizeBytes, bus, ...(base && { base }) }
}

/** Waits until the guest says `text` after byte `fromByte`. */
export async function untilSaid(host: Host, id: MachineId, text: string, fromByte = 0): Promise<void> {
  await until(`'${text}' on the console of ${id}`, async () =>
    (await said(host, id, fromByte)).includes(text),
  )
}

/** What the guest said from byte `fromByte` on. */
export async function said(host: Host, id: MachineId, fromByte = 0): Promise<Buffer> {
  return (await host.readConsole(id, fromByte)).bytes
}

/** All disks of a machine, with nothing known of them before and nothing demanded; `more` says otherwise. */
export function requestOf(spec: MachineSpec, more: Partial<ExportRequest> = {}): ExportRequest {
  return { diskIds: spec.disks.map((disk) => disk.id), since: {}, consistency: 'best', ...more }
}

/** System disk of 3 MiB content on a 4 MiB disk, and an empty data disk. */
export async function makeMachine(fixture: HostFixture): Promise<MachineSpec> {
  const base = await fixture.serveBase(fixture.bootDisk(3 * MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base), diskOf('virtio-scsi', 2 * MEBIBYTE)])
  await fixture.host.ensureMachine(spec, never())
  return spec
}
