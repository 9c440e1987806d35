// Writes into package-lock.json the packages for other platforms that the registry in use does not offer, so that
// `npm ci` works there too. Run it after `npm install`: `npm run lock`.
import { readFileSync, writeFileSync } from 'node:fs'

const SYSTEMS = ['android', 'darwin', 'linux', 'win32', 'freebsd', 'openbsd', 'netbsd', 'aix', 'sunos', 'openharmony']
const PROCESSORS = ['arm64', 'x64', 'arm', 'ppc64', 's390x', 'ia32', 'riscv64', 'loong64', 'mips64el']
const file = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(file, 'utf8'))
let addedCount = 0
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const top = `node_modules/${name}`
    if ((lock.packages[`${path}/${top}`] ?? lock.packages[top])?.version) continue
    const words = name.split(/[/-]/)
    const os = words.find((word) => SYSTEMS.includes(word))
    const cpu = words.find((word) => PROCESSORS.includes(word))
    if (!/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version) || !os || !cpu) {
      console.error(`${name}@${version}: no exact version, or no platform in its name`)
      continue
    }
    const libc = words.includes('musl') ? ['musl'] : words.includes('gnu') ? ['glibc'] : undefined
    lock.packages[top] = {
      version,
      cpu: [cpu],
      ...(entry.dev ? { dev: true } : {}),
      ...(libc ? { libc } : {}),
      optional: true,
      os: [os],
    }
    addedCount++
  }
}
const { '': root, ...rest } = lock.packages
const sorted = Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1))
lock.packages = { '': root, ...Object.fromEntries(sorted) }
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
console.log(`${addedCount} packages added`)
