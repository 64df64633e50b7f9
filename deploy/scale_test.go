package deploy

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/scale.md anew")

// input is one number that the tables are made of. Measured ones name the command in the page.
type input struct {
	name     string
	value    float64
	unit     string
	measured bool
}

// What the arithmetic of docs/scale.md begins with.
var inputs = []*input{stored, perDay, commands, sessions, peak, messageSize,
	rows, rowBytes, bodyRows, bodyBytes, objectCount, objectBytes, walBytes, dead, groupRate, nodeDelivery, nodeCommand, sessionMemory,
	groupDisk, nodeSessions, replicas,
	machinePrice, diskPrice, objectPrice, putPrice, getPrice}

var (
	stored      = &input{"messages that an account keeps", 5_000, "", false}
	perDay      = &input{"messages that come for an account in a day, and are read there", 30, "", false}
	commands    = &input{"IMAP commands of an account in a day", 200, "", false}
	sessions    = &input{"sessions open at a time, for each account", 0.3, "", false}
	peak        = &input{"busiest hour, by the mean of the day", 4, "", false}
	messageSize = &input{"bytes of a message, in the mean of ordinary mail", 76_000, "B", true}

	rows          = &input{"rows of `kv` for a message", 7.4, "", true}
	rowBytes      = &input{"bytes of these in tables and indexes", 7_670, "B", true}
	bodyRows      = &input{"rows of `blobs` for a message with their bytes in them", 0.72, "", true}
	bodyBytes     = &input{"bytes of these", 7_100, "B", true}
	objectCount   = &input{"objects for a message, over 32 KiB", 0.53, "", true}
	objectBytes   = &input{"bytes of these", 25_200, "B", true}
	walBytes      = &input{"bytes of WAL for a delivery", 50_500, "B", true}
	dead          = &input{"dead rows that a delivery leaves, that of `shards` among them", 3.9, "", true}
	groupRate     = &input{"deliveries a second that one group takes, with a standby, on two cores that do all else, too", 3_300, "/s", true}
	nodeDelivery  = &input{"processor time of a node for a delivery", 0.24, "ms", true}
	nodeCommand   = &input{"processor time of a node for a command of the mix", 0.075, "ms", true}
	sessionMemory = &input{"memory of a session in IDLE over TLS", 30_000, "B", false}

	groupDisk    = &input{"bytes that one group is to hold at the most", 4e12, "B", false}
	nodeSessions = &input{"sessions that one node is to hold at the most", 50_000, "", false}
	replicas     = &input{"machines of a group", 3, "", false}

	machinePrice = &input{"machine of 8 cores and 32 GB, a month", 0.3264 * 730, "$", false}
	diskPrice    = &input{"GB of disk, a month", 0.08, "$", false}
	objectPrice  = &input{"GB of objects, a month", 0.023, "$", false}
	putPrice     = &input{"1,000 PUTs", 0.005, "$", false}
	getPrice     = &input{"1,000 GETs", 0.0004, "$", false}
)

// line is one line of the table: what it comes to for so many accounts.
type line struct {
	name string
	of   func(n float64) float64
	unit string
}

func databaseBytes(n float64) float64 { return n * stored.value * (rowBytes.value + bodyBytes.value) }
func perSecond(n float64) float64     { return n * perDay.value / 86400 * peak.value }
func groups(n float64) float64 {
	return math.Ceil(math.Max(databaseBytes(n)/groupDisk.value, perSecond(n)/groupRate.value))
}
func nodeCores(n float64) float64 {
	return (perSecond(n)*nodeDelivery.value + n*commands.value/86400*peak.value*nodeCommand.value) / 1000
}
func nodes(n float64) float64 {
	// Half of a machine's eight cores, and one node more than is needed.
	return 1 + math.Ceil(math.Max(math.Max(n*sessions.value/nodeSessions.value, nodeCores(n)/4), 1))
}
func monthlyCost(n float64) float64 {
	gb := databaseBytes(n) / 1e9 * replicas.value * 1.3 // room for WAL and growth
	return (groups(n)*replicas.value+nodes(n))*machinePrice.value + gb*diskPrice.value +
		n*stored.value*objectBytes.value/1e9*objectPrice.value +
		n*perDay.value*30.4*objectCount.value/1000*(putPrice.value+getPrice.value)
}

var lines = []line{
	{"messages kept", func(n float64) float64 { return n * stored.value }, ""},
	{"mail as it came", func(n float64) float64 { return n * stored.value * messageSize.value }, "B"},
	{"rows", func(n float64) float64 { return n * stored.value * (rows.value + bodyRows.value) }, ""},
	{"in the databases, once", databaseBytes, "B"},
	{"objects", func(n float64) float64 { return n * stored.value * objectCount.value }, ""},
	{"in the object store", func(n float64) float64 { return n * stored.value * objectBytes.value }, "B"},
	{"deliveries in the busiest hour", perSecond, "/s"},
	{"WAL in a day, of all groups", func(n float64) float64 { return n * perDay.value * walBytes.value }, "B"},
	{"dead rows in a day, of all groups", func(n float64) float64 { return n * perDay.value * dead.value }, ""},
	{"PUTs in a day", func(n float64) float64 { return n * perDay.value * objectCount.value }, ""},
	{"GETs in a day, no cache", func(n float64) float64 { return n * perDay.value * objectCount.value }, ""},
	{"sessions", func(n float64) float64 { return n * sessions.value }, ""},
	{"memory of these", func(n float64) float64 { return n * sessions.value * sessionMemory.value }, "B"},
	{"cores of nodes in the busiest hour", nodeCores, ""},
	{"**groups**", groups, ""},
	{"**machines of groups**", func(n float64) float64 { return groups(n) * replicas.value }, ""},
	{"**nodes**", nodes, ""},
	{"**cost a month**", monthlyCost, "$"},
	{"of it, for one account", func(n float64) float64 { return monthlyCost(n) / n }, "$"},
}

var steps = []float64{1, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

// amount writes a number with two or three digits and what it counts.
func amount(v float64, unit string) string {
	if unit == "$" {
		if v < 1 {
			return fmt.Sprintf("$%.3f", v)
		}
		return "$" + short(v)
	}
	if unit == "B" {
		return short(v) + "B"
	}
	return strings.TrimSuffix(short(v)+unit, " ")
}

func short(v float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e15, " P"}, {1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if v >= u.at*0.9995 {
			return fmt.Sprintf("%.3g%s", v/u.at, u.name)
		}
	}
	switch {
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f ", v)
	case v >= 0.1:
		return fmt.Sprintf("%.3g ", v)
	}
	return fmt.Sprintf("%.2g ", v)
}

func tables() string {
	var b strings.Builder
	b.WriteString("| what is put in | | |\n|---|---:|---|\n")
	for _, i := range inputs {
		how := "assumed"
		if i.measured {
			how = "**measured**"
		}
		if i.unit == "$" {
			how = "list price"
		}
		value := strings.TrimSpace(amount(i.value, i.unit))
		if i.unit == "$" && i.value < 1 {
			value = fmt.Sprintf("$%.4g", i.value)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", i.name, value, how)
	}
	b.WriteString("\n| accounts |")
	for _, n := range steps {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(short(n)))
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(steps)) + "\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s |", l.name)
		for _, n := range steps {
			fmt.Fprintf(&b, " %s |", strings.TrimSpace(amount(l.of(n), l.unit)))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The tables of docs/scale.md are what their inputs come to.
func TestScalePage(t *testing.T) {
	const path, begin, end = "../docs/scale.md", "<!-- tables -->\n", "<!-- end -->\n"
	page := read(t, path)
	before, rest, ok := strings.Cut(page, begin)
	is, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("the page has no place for the tables")
	}
	want := tables()
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if is != want {
		t.Error("docs/scale.md differs from its inputs: go test ./deploy -run TestScalePage -update")
	}
	for _, i := range inputs {
		if i.value <= 0 || math.IsNaN(i.value) {
			t.Errorf("%s is %v", i.name, i.value)
		}
	}
}
