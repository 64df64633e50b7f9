package queue

// bucket is what was sent in a piece of time: the number of the piece, counts.
type bucket struct{ at, messages, recipients int64 }

// add counts a message. What is older than a day of the coarser buckets is dropped.
func add(list []bucket, at, recipients int64) []bucket {
	for len(list) > 0 && at-list[0].at > 24 {
		list = list[1:]
	}
	if n := len(list); n == 0 || list[n-1].at < at {
		list = append(list, bucket{at: at})
	}
	b := &list[len(list)-1]
	b.messages, b.recipients = b.messages+1, b.recipients+recipients
	return list
}

// merged adds the counts of two lists.
func merged(a, b []bucket) []bucket {
	var out []bucket
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].at <= b[0].at {
			a, b = b, a
		}
		if n := len(out); n > 0 && out[n-1].at == b[0].at {
			out[n-1].messages += b[0].messages
			out[n-1].recipients += b[0].recipients
		} else {
			out = append(out, b[0])
		}
		b = b[1:]
	}
	return out
}

// past makes what a clock that was ahead has counted later than at part of that: else it would
// count until then.
func past(list []bucket, at int64) []bucket {
	var last bucket
	for n := len(list); n > 0 && list[n-1].at > at; n-- {
		last.messages, last.recipients = last.messages+list[n-1].messages, last.recipients+list[n-1].recipients
		list = list[:n-1]
	}
	if last.messages == 0 {
		return list
	}
	if n := len(list); n > 0 && list[n-1].at == at {
		last.messages, last.recipients = last.messages+list[n-1].messages, last.recipients+list[n-1].recipients
		list = list[:n-1]
	}
	last.at = at
	return append(list, last)
}

// sum counts the buckets from one on.
func sum(list []bucket, from int64) (messages, recipients int64) {
	for _, b := range list {
		if b.at >= from {
			messages, recipients = messages+b.messages, recipients+b.recipients
		}
	}
	return messages, recipients
}

// lately drops what is older.
func lately(list []bucket, from int64) []bucket {
	for len(list) > 0 && list[0].at < from {
		list = list[1:]
	}
	return list
}
