"""The Lua scripts of claims on idempotency keys, in the gate beside the organization's wallet.

A claim is `request generation spool state lease_end`: the digest of what was asked, the generation that its
call is, the spool of the process that makes the call, and `live` or `done`. No money hangs on it; it runs
out by itself. A sorted set names all claims of an organization, by age, and only so many are kept.

Every script may be repeated, and `done` stays.
"""

from __future__ import annotations

_HEAD = """
local function n(x) return tonumber(x) or 0 end
local function s(x) return string.format('%.0f', x) end
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local function claim(K)
  local v = redis.call('GET', K)
  if v then return v:match('^(%S+) (%S+) (%S+) (%S+) (%d+)$') end
end
-- The newest stay: beyond `most` the oldest claims of the organization are forgotten.
local function put(K, all, member, value, t, seconds, most)
  redis.call('SET', K, value, 'EX', s(seconds))
  redis.call('ZADD', all, s(t), member)
  redis.call('ZREMRANGEBYSCORE', all, '-inf', s(t - seconds * 1000))
  redis.call('EXPIRE', all, s(seconds))
  while redis.call('ZCARD', all) > most do
    redis.call('DEL', K:sub(1, #K - #member) .. redis.call('ZPOPMIN', all)[1])
  end
end
"""

CLAIM = (
    _HEAD
    + """
-- KEYS: claim, claims of the organization, key version
-- ARGV: member request generation spool lease_ms seconds most lapsed key_version
-- `lapsed` is a generation whose process is gone, and which is known not to have been charged.
local version = redis.call('GET', KEYS[3])
if version ~= ARGV[9] then return {'key', version or '', ''} end
local t = now()
local request, generation, spool, state, till = claim(KEYS[1])
if request and generation ~= ARGV[3] then
  if request ~= ARGV[2] then return {'other', generation, spool} end
  if state == 'done' then return {'done', generation, spool} end
  if n(till) > t then return {'live', generation, spool} end
  if generation ~= ARGV[8] then return {'lapsed', generation, spool} end
end
local value = table.concat({ARGV[2], ARGV[3], ARGV[4], 'live', s(t + n(ARGV[5]))}, ' ')
put(KEYS[1], KEYS[2], ARGV[1], value, t, n(ARGV[6]), n(ARGV[7]))
return {'ok', ARGV[3], ARGV[4]}
"""
)

KEEP = (
    _HEAD
    + """
-- KEYS: claim, claims of the organization   ARGV: member request generation spool lease_ms seconds most state
-- Renews a claim or says that it is done; a gate that lost it learns of it again.
local _, generation, _, state = claim(KEYS[1])
if generation and generation ~= ARGV[3] then return 'lost' end
if state == 'done' then return 'ok' end
local t = now()
local value = table.concat({ARGV[2], ARGV[3], ARGV[4], ARGV[8], s(t + n(ARGV[5]))}, ' ')
put(KEYS[1], KEYS[2], ARGV[1], value, t, n(ARGV[6]), n(ARGV[7]))
return 'ok'
"""
)

DROP = (
    _HEAD
    + """
-- KEYS: claim, claims of the organization   ARGV: member generation
local _, generation, _, state = claim(KEYS[1])
if generation == ARGV[2] and state == 'live' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 'ok'
"""
)
