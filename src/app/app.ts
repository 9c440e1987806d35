import { createCaptures } from './captures.ts'
import { createCleaning } from './cleaning.ts'
import { createCompose } from './compose.ts'
import type { App, Keyring } from './contract.ts'
import { createCopies } from './copies.ts'
import { createEvents } from './events.ts'
import { createExports } from './exports.ts'
import { createGuard } from './guard.ts'
import { createImages } from './images.ts'
import { createImports } from './imports.ts'
import { createKeyring } from './keyring.ts'
import { createMachines } from './machines.ts'
import type { Parts } from './parts.ts'
import { cancelPaused } from './paused-copies.ts'
import { createPeers } from './peers.ts'
import { createProjects } from './projects.ts'
import { createRegions } from './regions.ts'
import { createReplication, type Replication } from './replicate.ts'
import { createReplicationRules } from './replication.ts'
import { createSnapshotPolicies } from './snapshot-policies.ts'
import { createSnapshots } from './snapshots.ts'
import { createStore } from './store.ts'
import { createTasks } from './tasks.ts'
import { createUploads } from './uploads.ts'
import { createUsers } from './users.ts'
import { createWebhookAdmission, type WebhookAdmission } from './webhook-rights.ts'
import { createWebhooks } from './webhooks.ts'

/** All use cases over one set of parts, and the keys that the doors check signatures with. */
export function createApp(parts: Parts): {
  readonly app: App
  readonly keyring: Keyring
  /** For whoever tells webhooks. */
  readonly admitWebhook: WebhookAdmission
  /** Takes away what time is over of: uploads and paused copies that nobody goes on with, links, events. For a timer. */
  readonly sweep: () => Promise<void>
  /** What follows the replication rules. */
  readonly replicate: (log: (record: Record<string, unknown>) => void) => Replication
} {
  const guard = createGuard(parts)
  const keyring = createKeyring(parts)
  const uploads = createUploads(parts, guard)
  const { retry, ...copies } = createCopies(parts, guard)
  return {
    app: {
      regions: createRegions(parts, guard),
      projects: createProjects(parts, guard),
      users: createUsers(parts, guard),
      images: {
        ...createImages(parts, guard),
        ...copies,
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
      tasks: createTasks(parts, guard, retry),
      store: createStore(parts, guard),
      events: createEvents(parts, guard),
      webhooks: createWebhooks(parts, guard),
      replication: createReplicationRules(parts, guard),
      peers: createPeers(parts.peers.known, guard),
    },
    keyring,
    admitWebhook: createWebhookAdmission(guard, keyring),
    async sweep() {
      const sweeps = [uploads.sweep(), cancelPaused(parts), parts.events.sweep()]
      // None of them keeps the others from what is theirs.
      for (const swept of await Promise.allSettled(sweeps))
        if (swept.status === 'rejected') throw swept.reason
    },
    replicate: (log) => createReplication({ parts, guard, log }),
  }
}
