import { createCaptures } from './captures.ts'
import { createCleaning } from './cleaning.ts'
import { createCompose } from './compose.ts'
import type { App, Keyring } from './contract.ts'
import { createExports } from './exports.ts'
import { createGuard } from './guard.ts'
import { createImages } from './images.ts'
import { createImports } from './imports.ts'
import { createKeyring } from './keyring.ts'
import { createMachines } from './machines.ts'
import type { Parts } from './parts.ts'
import { createProjects } from './projects.ts'
import { createRegions } from './regions.ts'
import { createSnapshotPolicies } from './snapshot-policies.ts'
import { createSnapshots } from './snapshots.ts'
import { createStore } from './store.ts'
import { createTasks } from './tasks.ts'
import { createUploads } from './uploads.ts'
import { createUsers } from './users.ts'

/** All use cases over one set of parts, and the keys that the doors check signatures with. */
export function createApp(parts: Parts): {
  readonly app: App
  readonly keyring: Keyring
  /** Takes away what time is over of: uploads that nobody goes on with, links. For a timer. */
  readonly sweep: () => Promise<void>
} {
  const guard = createGuard(parts)
  const uploads = createUploads(parts, guard)
  return {
    app: {
      regions: createRegions(parts, guard),
      projects: createProjects(parts, guard),
      users: createUsers(parts, guard),
      images: {
        ...createImages(parts, guard),
        ...createCaptures(parts, guard),
        ...createCompose(parts, guard),
        ...createCleaning(parts, guard),
        ...createImports(parts, guard),
      },
      uploads,
      exports: createExports(parts, guard),
      snapshots: createSnapshots(parts, guard),
      snapshotPolicies: createSnapshotPolicies(parts, guard),
      machines: createMachines(parts, guard),
      tasks: createTasks(parts, guard),
      store: createStore(parts, guard),
    },
    keyring: createKeyring(parts),
    sweep: uploads.sweep,
  }
}
