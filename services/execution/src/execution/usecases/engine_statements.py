"""The engine's SQL: runs are claimed, and their steps, rows and facts are stored, many in one statement."""

from __future__ import annotations

from execution.domain.nodes import IS_CALL

LEASE_SECONDS = 10
CALL_LEASE_SECONDS = 30
"""Of a call that goes on without its run: it has taken long already, and is dear to make again."""
KEYED_PLANS = {
    # Keyed reads and writes of partitions: one plan for ever, made of index probes. Planning sixteen partitions anew
    # for each batch, or joining a batch by reading all runs (cheap only while the tables are small), costs far more.
    "plan_cache_mode": "force_generic_plan", "enable_hashjoin": "off", "enable_mergejoin": "off",
    "enable_seqscan": "off", "enable_bitmapscan": "off", "enable_material": "off", "jit": "off",
}  # fmt: skip

# Always true, but of ten rows it lets the planner expect one: then it looks each up by its key instead of reading all.
FEW = "between 0 and 9000000000000000000"

# `case` hides the status from the planner, which would else walk all open runs of the organization for each of these.
CLAIM = f"""with asked as (
  select * from unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::bigint[], $5::boolean[])
    as a(organization_id, retention_class, id, token, redelivered) where a.token {FEW}
), free as (
  select r.retention_class, r.id, r.status from asked a
  join run r on r.organization_id = a.organization_id and r.retention_class = a.retention_class and r.id = a.id
  where case when r.status in ('queued', 'running', 'cancelling')
    then (r.token = a.token or a.redelivered or r.lease_until < now())
      and (r.status <> 'queued' or r.dispatched_at is not null) end
  order by r.id for update of r
)
update run r set status = case r.status when 'queued' then 'running' else r.status end, token = r.token + 1,
  started_at = coalesce(r.started_at, now()), worker_id = $6, lease_until = now() + interval '{LEASE_SECONDS} s',
  takeovers = case free.status when 'queued' then 0 else r.takeovers + 1 end, updated_at = now(),
  version = r.version + 1
from free where r.retention_class = free.retention_class and r.id = free.id
returning r.retention_class, r.id, r.organization_id, r.workspace_id, r.execution_type, r.agent_id,
  r.orchestration_id, r.version_id, r.pins, r.limits, r.created_by, r.status, r.input, r.input_ref, r.step_count,
  r.input_tokens, r.output_tokens, r.cost_usd_micros, r.traceparent, r.correlation_id, r.depth, r.token, r.last_step,
  r.takeovers, r.answers, r.forked_from, r.plays_writes, r.parent_step_id,
  extract(epoch from now() - r.started_at - r.waited)::float8 as elapsed"""  # noqa: S608  (a number of our own)

# `is true` keeps the planner from making a join of it: a hashed look-up in what was written.
WRITE = f"""with item as (
  select * from unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::bigint[], $5::integer[], $6::text[], $7::text[],
    $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::bigint[], $15::bigint[],
    $16::bigint[], $17::boolean[], $18::integer[], $19::boolean[], $20::timestamptz[])
  as i(organization_id, retention_class, id, token, last_step, status, waiting_for, output, output_ref, error_code,
    error_message, stop_reason, steps, input_tokens, output_tokens, cost, ended, answers, settles, wake_at)
  where i.token {FEW}
), written as (
  update run r set last_step = i.last_step + 1,
    status = case when r.status = 'cancelling' and not i.ended then r.status
      when i.status = 'waiting' and r.answers <> i.answers then 'queued' else i.status end,
    waiting_for = case when r.answers = i.answers then i.waiting_for end,
    waiting_since = case when i.status = 'waiting' and r.answers = i.answers then now() end,
    wake_at = case when r.answers = i.answers then i.wake_at end,
    dispatched_at = case when i.status <> 'waiting' then r.dispatched_at end,
    output = i.output, output_ref = i.output_ref, error_code = i.error_code, error_message = i.error_message,
    stop_reason = i.stop_reason, step_count = r.step_count + i.steps,
    input_tokens = r.input_tokens + i.input_tokens, output_tokens = r.output_tokens + i.output_tokens,
    cost_usd_micros = r.cost_usd_micros + i.cost, takeovers = 0, completed_at = case when i.ended then now() end,
    lease_until = case when i.ended or i.status = 'waiting' then null else now() + interval '{LEASE_SECONDS} s' end,
    updated_at = now(), version = r.version + 1
  from item i where r.organization_id = i.organization_id and r.retention_class = i.retention_class and r.id = i.id
    and r.token = i.token and r.last_step = i.last_step
    and (r.status = 'running' or r.status = 'cancelling' and (i.status = 'cancelled' or not i.ended))
    and (r.answers = i.answers or not i.settles)
  returning r.id, r.status
), step_rows as (
  insert into step (organization_id, retention_class, run_id, token, node, iteration, attempt, id, step_number, kind,
    effects, agent_id, agent_version_id, agent_semver, status, input, input_ref, output, output_ref, error_code,
    error_message, will_retry, provider, model_name, price_version, input_tokens, output_tokens, cost_usd_micros,
    started_at, completed_at, copied_from, child, lease_until)
  select s.*, case when s.status = 'waiting' and s.{IS_CALL}
    then now() + interval '{CALL_LEASE_SECONDS} s' end
  from unnest($21::uuid[], $22::smallint[], $23::uuid[], $24::bigint[], $25::text[], $26::integer[],
    $27::smallint[], $28::uuid[], $29::integer[], $30::text[], $31::text[], $32::uuid[], $33::uuid[], $34::text[],
    $35::text[], $36::bytea[], $37::text[], $38::bytea[], $39::text[], $40::text[], $41::text[], $42::boolean[],
    $43::text[], $44::text[], $45::text[], $46::bigint[], $47::bigint[], $48::bigint[], $49::timestamptz[],
    $50::timestamptz[], $51::uuid[], $52::jsonb[]) as s(organization_id, retention_class, run_id, token, node,
    iteration, attempt, id, step_number, kind, effects, agent_id, agent_version_id, agent_semver, status)
  where (s.run_id in (select id from written)) is true
  on conflict (organization_id, retention_class, run_id, node, iteration, attempt) do update set
    id = excluded.id, status = excluded.status, output = excluded.output, output_ref = excluded.output_ref,
    error_code = excluded.error_code, error_message = excluded.error_message, will_retry = excluded.will_retry,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    cost_usd_micros = excluded.cost_usd_micros, completed_at = excluded.completed_at, token = excluded.token,
    child = case when step.{IS_CALL} then excluded.child else step.child end,
    lease_until = excluded.lease_until, provider = coalesce(nullif(excluded.provider, ''), step.provider),
    model_name = coalesce(nullif(excluded.model_name, ''), step.model_name),
    price_version = coalesce(nullif(excluded.price_version, ''), step.price_version),
    started_at = excluded.started_at, updated_at = now(), version = step.version + 1
    where step.status in ('started', 'waiting') or step.status = 'needs_decision' and excluded.status = 'skipped'
), facts as (
  insert into outbox (id, type, organization_id, traceparent, body)
  select f.id, f.type, f.organization_id, f.traceparent, f.body
  from unnest($53::uuid[], $54::uuid[], $55::uuid[], $56::text[], $57::text[], $58::bytea[])
    with ordinality as f(organization_id, run_id, id, type, traceparent, body, number)
  where (f.run_id in (select id from written)) is true order by f.number
)
select id, status from written"""  # noqa: S608  (a number of our own)

STAND = """select token, last_step, status, answers, kill_switch_id is not null as is_killed from run
where organization_id = $1 and retention_class = $2 and id = $3"""
# With what the run's row says of them: read apart, a step that ends in between would be counted in neither.
STEPS = """select s.node, s.iteration, s.attempt, s.id, s.step_number, s.status, s.will_retry, s.output, s.output_ref,
  s.error_code, s.started_at, s.completed_at, s.kind, s.effects, s.agent_id, s.agent_version_id, s.agent_semver,
  s.provider, s.model_name, s.price_version, s.child, s.child_used,
  r.answers, r.step_count, r.input_tokens, r.output_tokens, r.cost_usd_micros
from run r join step s on s.organization_id = r.organization_id and s.retention_class = r.retention_class
  and s.run_id = r.id
where r.organization_id = $1 and r.retention_class = $2 and r.id = $3 order by s.step_number, s.attempt"""

RECORDED = """select id, output, output_ref from step
where organization_id = $1 and run_id = $2 and node = $3 and iteration = $4 and status = 'completed'
order by attempt desc limit 1"""
