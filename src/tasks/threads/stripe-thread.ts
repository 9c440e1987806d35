import { captureStripes, type StripeData } from './stripes.ts'
import { inThread } from './thread.ts'

/** A thread that helps the leader of a capture with its stripes. */
inThread((data: StripeData, options) => captureStripes(data, options))
