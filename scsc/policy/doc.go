// Package policy reads the rules an operator writes for the scheduling centre:
// documents of kind QoSPolicy, the preset conditions of draft §5(3).
//
//	apiVersion: dmsc.io/v1alpha1
//	kind: QoSPolicy
//	metadata: {name: b-fast}
//	spec:
//	  selector: {prefix: b/4}          # "" or left out: every name
//	  preference: 100                  # between rules of one selector
//	  match: AnyOf                     # the draft's "at least one"
//	  thresholds:
//	    delay:     {enter: 40ms, clear: 32ms}
//	    jitter:    {enter: 15ms, definition: pdv}
//	    bandwidth: {enter: 20Mbps, kind: available}
//	    loss:      {enter: 1%}
//	  trigger: {samples: 3of5}
//	  recovery: {holdDown: 30s}
//
// Loading is strict and reports every fault of every file at once:
//
//	set, err := policy.Load("policies/")   // errors: nothing of set may be used
//	for _, w := range set.Warnings { … }   // doubtful, but in force
//	rule := policy.Find(set.Rules, name)   // the one rule that decides
//
// Rules are sorted by precedence, so no result depends on the order of files or
// documents.
package policy
