package manifest

import (
	"fmt"
	"strings"
)

// Error is one fault at one place of a file.
type Error struct {
	File      string
	Line, Col int    // from 1; 0 when the fault has no place in the file
	Code      string // one of Codes, or of the package that owns the kind
	Msg       string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s %s", e.File, e.Code, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s %s", e.File, e.Line, e.Col, e.Code, e.Msg)
}

// suggest returns ` (did you mean "x"?)` for the candidate nearest to word, or
// "" when none is near.
func suggest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
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
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
