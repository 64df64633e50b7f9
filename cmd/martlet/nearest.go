package main

import "strings"

// nearest returns the known word that is spelled most like the given one, or "" if
// none is near.
func nearest(word string, known []string) string {
	best, bestAt := "", 1+max(2, len(word)/3)
	if len(word) > 100 {
		return ""
	}
	for _, k := range known {
		d := distance(word, k)
		if strings.HasPrefix(k, word) && word != "" {
			d = min(d, 1) // an abbreviation
		}
		if d < bestAt {
			best, bestAt = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with their
// neighbour.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
