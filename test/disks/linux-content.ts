import { chmod, link, mkdir, open, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { LinuxContent } from './linux.ts'
import { CROWD_COUNT } from './linux-changes.ts'
import { writeSwapHeader } from './swap.ts'
import { full, randomOf, type Tokens } from './tokens.ts'

const MIB = 1024 ** 2
export const ROOT_UUID = '0ca10764-0000-4000-8000-0000000000a1'

/** Ordinary accounts, by user id; the names of their homes. */
const USERS = [
  ['alice', 1000, 'alice'],
  ['bob', 1001, 'Bob'],
  ['lilei', 1002, '李雷'],
  ['zoe', 1003, 'zoë'],
  ['user.with.dots', 1004, 'user.with.dots'],
] as const
const KEYS = ['rsa', 'ecdsa', 'ed25519'] as const

interface Filled {
  readonly content: LinuxContent
  /** 'UID:GID PATH', relative, in the order in which they are set. */
  readonly owners: readonly string[]
}

class Filler {
  readonly folder: string
  readonly tokens: Tokens
  readonly random: () => number
  readonly owners: string[] = []

  constructor(folder: string, tokens: Tokens) {
    this.folder = folder
    this.tokens = tokens
    this.random = randomOf(tokens.seed)
  }

  at(path: string): string {
    return join(this.folder, path)
  }

  async file(path: string, content: Uint8Array | string): Promise<void> {
    await mkdir(dirname(this.at(path)), { recursive: true })
    await writeFile(this.at(path), content)
  }

  /** A file full of a token that has to be gone. */
  gone(path: string, kind: string, lengthBytes: number): Promise<void> {
    return this.file(path, full(this.tokens.newGone(kind), lengthBytes))
  }

  kept(path: string, kind: string, lengthBytes: number): Promise<void> {
    return this.file(path, full(this.tokens.newKept(kind), lengthBytes))
  }
}

/** A data disk: nothing of a system, no users. */
export async function fillData(folder: string, tokens: Tokens, hasJournal: boolean): Promise<Filled> {
  const filler = new Filler(folder, tokens)
  await everyKind(filler, 'data/set', true)
  await toBeChanged(filler, 'data', hasJournal)
  return { content: { removed: [], emptied: [], changed: [] }, owners: ['1000:1000 data/set'] }
}

/** The tree of a small Linux. `fileCount`: further files, half of them a user's. */
export async function fillLinux(
  folder: string,
  tokens: Tokens,
  hasJournal: boolean,
  fileCount = 0,
): Promise<Filled> {
  const filler = new Filler(folder, tokens)
  await system(filler)
  await homes(filler)
  const emptied = await identity(filler)
  await everyKind(filler, 'opt/company', true)
  await everyKind(filler, 'root/projects', true)
  await toBeChanged(filler, 'opt', hasJournal)
  if (fileCount > 0) {
    await crowd(filler, 'home/alice/many', fileCount / 2, false)
    await crowd(filler, 'opt/many', fileCount / 2, true)
  }
  const owners = USERS.flatMap(([, uid, home]) => [
    `${uid}:${uid} home/${home}`,
    `${uid}:${uid} home/${home}/keys`,
  ])
  return {
    content: {
      removed: [
        ...['home/formerly', 'etc/passwd-', 'etc/shadow-', 'etc/group-', 'etc/gshadow-'],
        ...KEYS.flatMap((key) => [`etc/ssh/ssh_host_${key}_key`, `etc/ssh/ssh_host_${key}_key.pub`]),
        'etc/udev/rules.d/70-persistent-net.rules',
        ...['root/.bash_history', 'root/.python_history', 'root/.viminfo'],
        ...['var/lib/systemd/random-seed', 'var/spool/cron/crontabs/alice'],
      ],
      emptied: [...USERS.map(([, , home]) => `home/${home}`), ...emptied],
      // The last three are what makes new keys at the first start.
      changed: ['etc/machine-id', 'swap.img', 'var/log', 'etc/systemd', 'var/lib/dbus', 'var/lib/cloud'],
    },
    owners: [...owners, '1500:1500 home/formerly', '999:999 var/lib/service'],
  }
}

async function system(filler: Filler): Promise<void> {
  const users = USERS.map(([name, uid, home]) => `${name}:x:${uid}:${uid}::/home/${home}:/bin/bash\n`).join(
    '',
  )
  const passwd = `root:x:0:0:root:/root:/bin/bash\nservice:x:999:999::/var/lib/service:/usr/sbin/nologin\n${users}nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n`
  await filler.file('etc/passwd', passwd)
  await filler.file('etc/shadow', passwd.replace(/:.*/g, ':!:19000:0:99999:7:::'))
  await filler.file('etc/group', USERS.map(([name, uid]) => `${name}:x:${uid}:\n`).join(''))
  for (const name of ['passwd', 'shadow', 'group', 'gshadow'])
    await filler.file(`etc/${name}-`, `${filler.tokens.newGone('backup')}:x:1:1::/:/bin/false\n`)
  await filler.file('etc/login.defs', '# ids\nUID_MIN\t\t\t 1000\nUID_MAX\t\t\t60000\nSYS_UID_MIN 100\n')
  await filler.file('etc/os-release', 'ID=debian\nNAME="Debian GNU/Linux"\n')
  await filler.file('etc/hostname', 'planted\n')
  await filler.file('etc/fstab', `UUID=${ROOT_UUID} / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n`)
  await filler.file('usr/lib/systemd/systemd', full(filler.tokens.newKept('systemd'), 30_000))
  await filler.file('usr/bin/ssh-keygen', full(filler.tokens.newKept('keygen'), 30_000))
  await chmod(filler.at('usr/bin/ssh-keygen'), 0o755)
  await mkdir(filler.at('etc/systemd/system'), { recursive: true })
  await filler.kept('var/lib/service/state', 'service', 9000)
  await mkdir(filler.at('var/mail'), { recursive: true })
  await filler.gone('swap.img', 'swapfile', 2 * MIB)
  await writeSwapHeader(filler.at('swap.img'), 0, 2 * MIB)
}

async function homes(filler: Filler): Promise<void> {
  for (const [, , home] of USERS) {
    await everyKind(filler, `home/${home}`, false)
    await mkdir(filler.at(`home/${home}/keys`), { mode: 0o700 })
    await filler.gone(`home/${home}/keys/id_ed25519`, 'key', 400)
    await chmod(filler.at(`home/${home}`), 0o750)
  }
  await filler.gone('home/formerly/text', 'former', 5000)
  const odd = ['-rf', 'two\nlines', "it's", 'a "quote"', '* ?', 'back\\slash', ' ']
  for (const name of odd) await filler.gone(`home/alice/odd/${name}`, 'odd', 100)
  await writeFile(
    Buffer.concat([Buffer.from(filler.at('home/alice/odd/')), Buffer.from([0xe9, 0xff])]),
    full(filler.tokens.newGone('odd'), 100),
  )
  await filler.kept('srv/shared', 'shared', 9000)
  await link(filler.at('srv/shared'), filler.at(`home/alice/${filler.tokens.newGone('shared')}`))
  await symlink('/srv/shared', filler.at('home/Bob/to shared'))
  await symlink(
    `/opt/company/${filler.tokens.newGone('target')}${'x'.repeat(60)}`,
    filler.at('home/Bob/slow'),
  )
  let deep = 'home/alice'
  for (let i = 0; i < 60; i++) deep += `/deep ${i} ${'d'.repeat(30)}`
  await filler.gone(`${deep}/end`, 'deep', 200)
}

/** What a machine is known by, and what it has noted; answers the folders that are to be empty. */
async function identity(filler: Filler): Promise<readonly string[]> {
  await filler.file('etc/machine-id', `${'0123456789abcdef'.repeat(2)}\n`)
  for (const key of KEYS) {
    await filler.gone(`etc/ssh/ssh_host_${key}_key`, 'hostkey', 600)
    await filler.gone(`etc/ssh/ssh_host_${key}_key.pub`, 'hostkey', 200)
  }
  await filler.kept('etc/ssh/sshd_config', 'sshd', 500)
  await filler.gone('etc/udev/rules.d/70-persistent-net.rules', 'udev', 300)
  await filler.gone('var/lib/systemd/random-seed', 'seed', 512)
  await filler.gone('var/lib/dhcp/dhclient.eth0.leases', 'lease', 900)
  await filler.gone('var/lib/cloud/instances/i-1/user-data.txt', 'cloud', 900)
  for (const name of [
    'syslog',
    'syslog.1',
    'auth.log',
    'wtmp',
    'btmp',
    'lastlog',
    'apt/history.log',
    'journal/0123/system.journal',
  ])
    await filler.gone(`var/log/${name}`, 'log', 9000)
  await filler.gone(`var/log/${filler.tokens.newGone('rotated')}.log.2.gz`, 'log', 9000)
  for (const name of ['.bash_history', '.python_history', '.viminfo'])
    await filler.gone(`root/${name}`, 'history', 700)
  await filler.gone('var/crash/one.crash', 'crash', 9000)
  await filler.gone('var/lib/systemd/coredump/core.1', 'core', 20_000)
  await filler.gone('var/cache/apt/archives/one_1.0_all.deb', 'deb', 20_000)
  await filler.gone('tmp/file', 'temp', 3000)
  await filler.gone(`var/tmp/${filler.tokens.newGone('temp')}/file`, 'temp', 3000)
  await filler.gone('var/spool/mail/alice', 'mail', 12_000)
  await filler.gone('var/spool/cron/crontabs/alice', 'cron', 300)
  await filler.kept('var/spool/cron/crontabs/root', 'cron', 300)
  await filler.gone('var/spool/cron/atjobs/a0000101', 'at', 300)
  return [
    'tmp',
    'var/tmp',
    'var/crash',
    'var/lib/systemd/coredump',
    'var/lib/dhcp',
    'var/cache/apt/archives',
    'var/spool/mail',
    'var/spool/cron/atjobs',
  ]
}

async function everyKind(filler: Filler, top: string, isKept: boolean): Promise<void> {
  const { tokens } = filler
  const token = (kind: string) => (isKept ? tokens.newKept(kind) : tokens.newGone(kind))
  await filler.file(`${top}/${token('empty')}`, '')
  await filler.file(`${top}/short`, token('short'))
  await filler.file(`${top}/.config/${token('name')}.txt`, full(token('small'), 3000))
  await filler.file(`${top}/.cache/cache.bin`, full(token('cache'), 70_001))
  const longest = token('long')
  await filler.file(`${top}/${longest}${'n'.repeat(255 - longest.length)}`, token('longest'))
  const isFirst = top === 'home/alice' || top === 'opt/company'
  const sparse = await open(filler.at(`${top}/sparse`), 'w')
  await sparse.write(full(token('sparse'), 8192), 0, 8192, MIB)
  await sparse.write(full(token('sparse'), 100), 0, 100, 3 * MIB).finally(() => sparse.close())
  if (!isFirst) return
  await filler.file(`${top}/video.mp4`, full(token('large'), 5 * MIB))
  await crowd(filler, `${top}/crowd`, isKept ? 400 : 1000, isKept)
}

async function crowd(filler: Filler, path: string, count: number, isKept: boolean): Promise<void> {
  await mkdir(filler.at(path), { recursive: true })
  const token = (kind: string) => (isKept ? filler.tokens.newKept(kind) : filler.tokens.newGone(kind))
  for (let i = 0; i < count; i++) {
    const name = i % 10 === 0 ? token('crowd') : `file ${i}`
    const lengthBytes = i % 7 === 0 ? Math.floor(filler.random() * 12_000) : 0
    const content = token('content')
    await writeFile(
      filler.at(`${path}/${name} ${i}`),
      lengthBytes === 0 ? content : full(content, lengthBytes),
    )
  }
}

/** What `changeByHand` deletes, cuts and notes. */
async function toBeChanged(filler: Filler, top: string, hasJournal: boolean): Promise<void> {
  const { tokens } = filler
  for (let i = 0; i < CROWD_COUNT; i++) {
    await filler.file(`${top}/crowd/${tokens.newKept('stays')}`, `${i}`)
    if (i % 2 === 0) await filler.file(`${top}/crowd/${tokens.newGone('delname')}`, tokens.newGone('deleted'))
  }
  for (let i = 0; i < 4; i++)
    await filler.file(`${top}/${tokens.newGone('delbig')}`, full(tokens.newGone('deleted'), MIB))
  await filler.gone(`${top}/${tokens.newGone('deldir')}/inside`, 'deleted', 200)
  await filler.file(`${top}/noted`, 'x')
  const [stays, goes] = [full(tokens.newKept('cut'), 1024), full(tokens.newGone('cut'), 60_000)]
  await filler.file(`${top}/cut`, Buffer.concat([stays, full(tokens.newKept('cut'), 3072), goes]))
  // The journal writes over it, where there is one.
  await filler.file(
    'replayed',
    full(hasJournal ? tokens.newGone('replaced') : tokens.newKept('replaced'), 1024),
  )
}
