// The colours that the reader has chosen, before anything is drawn.
document.documentElement.dataset.theme = localStorage.getItem("plumbline-theme") ?? "auto";
