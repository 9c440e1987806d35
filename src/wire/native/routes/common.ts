import { integer, optional, project, text, withDefault } from '../fields.ts'

/** Region and project of a request: in the query or in the body, as the caller likes. */
export const place = {
  region: optional(text(64)),
  project: optional(project),
}

export const paging = {
  offset: withDefault(integer(0, 1_000_000_000), 0),
  limit: withDefault(integer(1, 500), 100),
}
