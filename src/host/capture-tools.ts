import assert from 'node:assert/strict'
import type { ChangeContext, DiskExports, ExportedDisk, Host, MachineSpec } from './contract.ts'
import { type HostFixture, makeMachine, never, untilSaid } from './suite-tools.ts'

/** `since` for every disk of the machine. */
export const sinceAll = (spec: MachineSpec, key: string): Record<string, string> =>
  Object.fromEntries(spec.disks.map((disk) => [disk.id, key]))

/** No changes are told of the disk although it was asked what changed, and it is said why. */
export function saysWhyNot(disk: ExportedDisk | undefined): void {
  assert.ok(disk)
  assert.equal(disk.changes, undefined)
  assert.notEqual(disk.changesWhy, '')
}

/** What the tests of captures do with the fixture's guests and exports. */
export class CaptureTools {
  readonly #fixtureOf: () => HostFixture

  /** The fixture is there only when the first test begins. */
  constructor(fixtureOf: () => HostFixture) {
    this.#fixtureOf = fixtureOf
  }

  get fixture(): HostFixture {
    return this.#fixtureOf()
  }

  async startedMachine(): Promise<MachineSpec> {
    const spec = await makeMachine(this.fixture)
    await this.start(this.fixture.host, spec)
    return spec
  }

  /** Waits until the guest is up. */
  async start(host: Host, spec: MachineSpec): Promise<void> {
    const { guest } = this.fixture
    assert.ok(guest)
    const { length } = (await host.readConsole(spec.id, 0)).bytes
    await host.ensureStarted(spec.id, never())
    await untilSaid(host, spec.id, guest.banner, length)
  }

  async fill(host: Host, spec: MachineSpec, disk: number, sector: number, character: string): Promise<void> {
    const { guest } = this.fixture
    assert.ok(guest)
    await guest.fill(host, spec.id, disk, sector, character)
  }

  contentOf(disk: ExportedDisk): Promise<Buffer> {
    return this.fixture.readExport(disk, 0, disk.sizeBytes)
  }

  async contentsOf(exports: DiskExports): Promise<Buffer[]> {
    const contents: Buffer[] = []
    for (const disk of exports.disks) contents.push(await this.contentOf(disk))
    return contents
  }

  /**
   * How many bytes a context says may differ from `before`; that all others are equal is checked. Asked twice, as the
   * contract wants it.
   */
  async differingBytes(disk: ExportedDisk, context: ChangeContext, before: Buffer): Promise<number> {
    const mayDiffer = Buffer.alloc(disk.sizeBytes)
    for (let times = 0; times < 2; times++) {
      let at = 0
      for (const { offset, lengthBytes, status } of await this.fixture.readStatus(disk, context.name)) {
        assert.equal(offset, at)
        at += lengthBytes
        if (status >= 1 && status <= context.most) mayDiffer.fill(1, offset, at)
      }
      assert.equal(at, disk.sizeBytes)
    }
    const now = await this.contentOf(disk)
    assert.equal(now.length, before.length)
    const wrong = now.findIndex((byte, at) => byte !== before[at] && mayDiffer[at] === 0)
    assert.equal(wrong, -1, `byte ${wrong} of disk ${disk.id} is not as it was`)
    return mayDiffer.reduce((sum, may) => sum + may, 0)
  }

  /** As above, for what changed since the capture that `since` named. */
  async changedBytes(disk: ExportedDisk | undefined, before: Buffer | undefined): Promise<number> {
    assert.ok(disk?.changes && before, `no changes of ${disk?.id}: ${disk?.changesWhy}`)
    assert.equal(disk.changesWhy, '')
    return await this.differingBytes(disk, disk.changes, before)
  }
}
