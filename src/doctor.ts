import { execFile } from 'node:child_process'
import type { Finding } from './cli/commands/doctor.ts'
import type { IsolationFact } from './isolation/isolation.ts'

/** Programs that the service drives, what for, and the Debian package each comes from. */
const PROGRAMS = [
  ['qemu-system-x86_64', 'machines', 'qemu-system-x86', 'running machines, cleaning Linux'],
  ['qemu-img', 'machines', 'qemu-utils', "machines' disks"],
  ['xz', 'imports', 'xz-utils', 'files packed with xz'],
  ['cpio', 'cleaning', 'cpio', 'the guest that cleans Linux'],
  ['e2fsck', 'cleaning', 'e2fsprogs', 'checking what was cleaned'],
] as const

/**
 * What this host can do for a server, as the user who asks. Nothing is changed, and no data directory is needed: programs,
 * acceleration, and what holds processes that read strangers' bytes away from the host.
 */
export async function examineHost(): Promise<readonly Finding[]> {
  const programs = await Promise.all(
    PROGRAMS.map(async ([name, area, fromPackage, use]): Promise<Finding> => {
      const isThere = await isInstalled(name)
      return { area, name, isThere, detail: isThere ? `for ${use}` : `Install '${fromPackage}', for ${use}.` }
    }),
  )
  const { cleaningFacts } = await import('./cleaning/cleaner.ts')
  const { readerIsolation } = await import('./intake/reader-isolation.ts')
  const findings = async (area: Finding['area'], facts: () => Promise<readonly IsolationFact[]>) =>
    (await facts()).map(({ name, isThere, detail }): Finding => ({ area, name, isThere, detail }))
  return [
    ...programs.filter(({ area }) => area === 'machines'),
    await acceleration(),
    ...programs.filter(({ area }) => area === 'imports'),
    ...(await findings('imports', async () => (await readerIsolation()).facts)),
    ...programs.filter(({ area }) => area === 'cleaning'),
    ...(await findings('cleaning', cleaningFacts)),
  ]
}

/** With a throw-away guest, as a server tries it: some hosts offer a KVM under which guests fault. */
async function acceleration(): Promise<Finding> {
  const { tryGuest } = await import('./host/qemu/acceleration.ts')
  const name = 'KVM'
  try {
    const { outcome, why } = await tryGuest('kvm')
    const isThere = outcome === 'ran'
    const detail = isThere ? 'guests run at full speed' : `Guests are emulated, which is slow. ${why}`
    return { area: 'machines', name, isThere, detail }
  } catch (error) {
    return {
      area: 'machines',
      name,
      isThere: false,
      detail: `It could not be tried: ${(error as Error).message}`,
    }
  }
}

function isInstalled(program: string): Promise<boolean> {
  return new Promise((resolve) => {
    const path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`
    execFile('/bin/sh', ['-c', 'command -v "$0"', program], { env: { PATH: path } }, (error) =>
      resolve(error === null),
    )
  })
}
