'use strict';

// Files that the visitor's own browser saves. They arrive through a hidden field, so the server does not keep them.
window.studio ??= {};
Object.assign(window.studio, {
  saveBlob: (blob, name) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 4000);
  },

  save: (made) => {
    if (!made) return;
    const {name, type, content} = JSON.parse(made);
    studio.saveBlob(new Blob([content], {type}), name);
  },

  saveText: (name, type, text) => studio.saveBlob(new Blob([text], {type}), name),
});
