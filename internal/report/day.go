package report

import (
	"encoding/binary"
	"time"
)

// day counts days of UTC since 1970: a report is about one.
type day uint32

func dayOf(t time.Time) day { return day(max(t.Unix(), 0) / 86400) }

func (d day) begin() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }
func (d day) end() time.Time   { return (d + 1).begin() }
func (d day) String() string   { return d.begin().Format(time.DateOnly) }

func (d day) appendTo(key []byte) []byte { return binary.BigEndian.AppendUint32(key, uint32(d)) }

// place is what one report is about: a kind, a day and a domain.
type place struct {
	kind   Kind
	day    day
	domain string // in A-labels
}
