package confine

func apply(Policy) (Report, error) {
	return Report{Missing: "macOS lets no running program give up its rights; the worker keeps those of its user"}, nil
}
