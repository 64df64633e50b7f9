package postgres

import (
	"bytes"
	"context"
	"slices"
)

// suspects are what must be compared again before the place is changed.
type suspects struct {
	keys  map[string]struct{}
	spans []span
}

func (t *suspects) add(key []byte) {
	if t.keys == nil {
		t.keys = map[string]struct{}{}
	}
	t.keys[string(key)] = struct{}{}
}

// size counts a span as many keys: nobody knows what is in it.
func (t *suspects) size() int { return len(t.keys) + len(t.spans)*shortTouched }

// count finds out about how much there is to do.
func (m *mover) count(ctx context.Context) error {
	keys, size, err := m.from.weigh(ctx, m.shard)
	m.at.KeysTotal, m.at.BytesTotal = keys, size
	return err
}

// level makes the target as the source is in a range. Of a comparison it remembers the keys
// that differed: they are to be looked at again, when the source stands still.
func (m *mover) level(ctx context.Context, s span, comparing bool) error {
	for !s.empty() {
		have, want, end, err := m.chunks(ctx, s)
		if err != nil {
			return err
		}
		if err := m.mend(ctx, want, have, comparing); err != nil {
			return err
		}
		if m.again.size() > mostTouched {
			return errTooBusy
		}
		m.at.Keys += int64(len(want))
		m.at.Bytes += sizeOf(want)
		m.say()
		if m.each != nil {
			if err := m.each("chunk"); err != nil {
				return err
			}
		}
		if end == nil {
			return nil
		}
		s.from = after(end)
	}
	return nil
}

// chunks reads the beginning of a range on both sides, as far as both have been read: end is
// the last key of it, nil at the end of the range.
func (m *mover) chunks(ctx context.Context, s span) (have, want []record, end []byte, err error) {
	want, moreWant, err := m.from.records(ctx, m.shard, s)
	if err != nil {
		return nil, nil, nil, err
	}
	have, moreHave, err := m.to.records(ctx, m.shard, s)
	if err != nil {
		return nil, nil, nil, err
	}
	if moreWant {
		end = want[len(want)-1].key
	}
	if last := len(have) - 1; moreHave && (end == nil || bytes.Compare(have[last].key, end) < 0) {
		end = have[last].key
	}
	return upTo(have, end), upTo(want, end), end, nil
}

func upTo(list []record, end []byte) []record {
	if end == nil {
		return list
	}
	n, found := slices.BinarySearchFunc(list, end, func(p record, k []byte) int { return bytes.Compare(p.key, k) })
	if found {
		n++
	}
	return list[:n]
}

// mend writes to the target what differs. Both lists are in order of key.
func (m *mover) mend(ctx context.Context, want, have []record, comparing bool) error {
	var puts []record
	var gone [][]byte
	for len(want) > 0 || len(have) > 0 {
		order := 0
		switch {
		case len(have) == 0:
			order = -1
		case len(want) == 0:
			order = 1
		default:
			order = bytes.Compare(want[0].key, have[0].key)
		}
		key := []byte(nil)
		switch {
		case order < 0 || order == 0 && !bytes.Equal(want[0].value, have[0].value):
			key = want[0].key
			puts = append(puts, want[0])
		case order > 0:
			key = have[0].key
			gone = append(gone, key)
		}
		if key != nil && comparing {
			m.again.add(key)
			m.differ++
		}
		if order <= 0 {
			want = want[1:]
		}
		if order >= 0 {
			have = have[1:]
		}
	}
	return m.write(ctx, puts, gone)
}

// write changes the target, which must still be one that is being filled.
func (m *mover) write(ctx context.Context, puts []record, gone [][]byte) error {
	if len(puts)+len(gone) == 0 {
		return nil
	}
	keys, values := make([][]byte, 0, len(puts)), make([][]byte, 0, len(puts))
	for _, p := range puts {
		keys, values = append(keys, p.key), append(values, p.value)
	}
	return m.atRow(ctx, "fill", m.to, func(r shardRow) (calls []call, err error) {
		if r.state != stateIncoming {
			return nil, errState
		}
		if len(gone) > 0 {
			calls = append(calls, call{stGone, []any{int64(m.shard), gone}})
		}
		if len(puts) > 0 {
			calls = append(calls, call{stFill, []any{int64(m.shard), keys, values}})
		}
		return calls, nil
	})
}

var (
	stGone = &statement{"g_gone", "DELETE FROM kv WHERE shard = $1::bigint AND key = ANY($2::bytea[])"}
	stFill = &statement{"g_fill", `INSERT INTO kv (shard, key, value) SELECT $1::bigint, k, v FROM unnest($2::bytea[], $3::bytea[]) AS t (k, v)
		ON CONFLICT (shard, key) DO UPDATE SET value = excluded.value`}
)

// follow carries over what the journal tells, until it is short.
func (m *mover) follow(ctx context.Context) error {
	for range moveRounds {
		n, err := m.followOnce(ctx)
		if err != nil {
			return err
		}
		if n <= shortJournal {
			return nil
		}
	}
	return errTooBusy
}

// followOnce carries over a batch of the journal: the values of now, which are those of the
// entries or of later ones. What it carried over is to be compared again.
func (m *mover) followOnce(ctx context.Context) (n int, err error) {
	list, err := m.from.journal(ctx, m.shard)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	keys := map[string]struct{}{}
	var spans []span
	for _, e := range list {
		if e.upto == nil {
			keys[string(e.key)] = struct{}{}
			m.again.add(e.key)
			continue
		}
		s := e.span()
		spans = append(spans, s)
		m.again.spans = append(m.again.spans, s)
	}
	if _, err := m.compareKeys(ctx, keys, true); err != nil {
		return 0, err
	}
	for _, s := range spans {
		if err := m.level(ctx, s, false); err != nil {
			return 0, err
		}
	}
	last := list[len(list)-1]
	err = m.atRow(ctx, "followed", m.from, func(shardRow) ([]call, error) {
		return []call{{stFollowed, []any{int64(m.shard), last.version, last.n}}}, nil
	})
	m.at.Journal += int64(len(list))
	m.say()
	return len(list), err
}

// compareAgain compares what is to be compared again, and takes over what differs, to be
// compared yet again.
func (m *mover) compareAgain(ctx context.Context) (differ int64, err error) {
	t := m.again
	m.again = suspects{}
	before := m.differ
	if _, err := m.compareKeys(ctx, t.keys, false); err != nil {
		return 0, err
	}
	for _, s := range t.spans {
		if err := m.level(ctx, s, true); err != nil {
			return 0, err
		}
	}
	return m.differ - before, nil
}

// compareKeys makes single keys of the target as those of the source are.
func (m *mover) compareKeys(ctx context.Context, keys map[string]struct{}, following bool) (n int, err error) {
	list := make([][]byte, 0, len(keys))
	for k := range keys {
		list = append(list, []byte(k))
	}
	slices.SortFunc(list, bytes.Compare)
	for part := range slices.Chunk(list, moveValues) {
		want, err := m.from.values(ctx, m.shard, part)
		if err != nil {
			return n, err
		}
		have, err := m.to.values(ctx, m.shard, part)
		if err != nil {
			return n, err
		}
		if err := m.mend(ctx, want, have, !following); err != nil {
			return n, err
		}
		if !following {
			m.at.Compared += int64(len(part))
		}
	}
	return len(list), nil
}
