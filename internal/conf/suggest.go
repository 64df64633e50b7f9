package conf

import (
	"fmt"
	"reflect"
	"strings"
)

// suggestion returns the words that follow "unknown key": the nearest known one. A
// key of the same name in another table wins over one that is spelled alike.
func suggestion(unknown string) string {
	if len(unknown) > 100 {
		return ""
	}
	plain := withoutNumbers(unknown)
	table, name := splitKey(plain)
	best, bestAt := "", 1+max(2, len(name)/3)
	for _, k := range knownKeys("", reflect.TypeFor[Config]()) {
		otherTable, other := splitKey(k)
		d := distance(name, other)
		if otherTable != table && d > 0 {
			d++ // nearer is better in the same table
		}
		if d < bestAt {
			best, bestAt = k, d
		}
	}
	bestTable, bestName := splitKey(best)
	switch {
	case best == "":
		return ""
	case bestTable == table:
		return fmt.Sprintf("; did you mean %q?", bestName)
	case bestTable == "":
		return fmt.Sprintf("; did you mean %q at the top of the file?", bestName)
	}
	return fmt.Sprintf("; did you mean %q in [%s]?", bestName, bestTable)
}

func splitKey(key string) (table, name string) {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

func withoutNumbers(key string) string {
	for {
		from, to := strings.IndexByte(key, '['), strings.IndexByte(key, ']')
		if from < 0 || to < from {
			return key
		}
		key = key[:from] + key[to+1:]
	}
}

// knownKeys lists every key with its tables, in the order of the file.
func knownKeys(path string, t reflect.Type) []string {
	var all []string
	for _, f := range fieldsOf(t) {
		full := join(path, f.Tag.Get("toml"))
		all = append(all, full)
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if isTable(inner) {
			all = append(all, knownKeys(full, inner)...)
		}
	}
	return all
}

// distance is the number of letters to insert, delete or replace (Levenshtein). Both
// words are short.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
